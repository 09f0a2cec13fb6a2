"""The language of a text, by its commonest letter sequences (langid, Lui and Baldwin 2012)."""

from __future__ import annotations

from collections.abc import Iterable

UNKNOWN = "und"  # ISO 639's word for undetermined
SAMPLE_CHARACTERS = 600
MIN_CHARACTERS = 20


def language_of(text: str) -> str:
    """ISO 639-1 code of a text's language, judged by its middle; `und` where there is too little."""
    sample = middle(text).strip()
    if len(sample) < MIN_CHARACTERS:
        return UNKNOWN
    import py3langid

    return str(py3langid.classify(sample)[0])


def middle(text: str) -> str:
    """The part of a text by which its language is judged."""
    start = max(0, (len(text) - SAMPLE_CHARACTERS) // 2)
    return text[start : start + SAMPLE_CHARACTERS]


def languages_of(texts: Iterable[str]) -> dict[str, int]:
    """How many of some texts are in each language, the commonest first."""
    counts: dict[str, int] = {}
    for text in texts:
        code = language_of(text)
        counts[code] = counts.get(code, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
