"""Cleaning: text is mended, or the document is dropped with a reason. Pure functions of one document.

What a step costs most documents is one quick look: whether there is anything for it to do.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from steep.corpus.document import Document, Drop, drop
from steep.corpus.language import language_of
from steep.spec.job import Cleaning

STEP = "clean"
REASONS = ("empty", "too_short", "repeated_lines", "few_letters", "language")

# control characters, byte order marks and stray surrogates; and what UTF-8 read as a one-byte encoding looks like: a capital
# with an accent or the like, and after it a sign that such encodings have between 0x80 and 0xBF
_CONTROLS = r"\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufeff\ud800-\udfff"
_SECOND = r"\x80-\xbf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122"
_SUSPECT = re.compile(f"[{_CONTROLS}]|[\\xc2-\\xf4][{_SECOND}]")
_ASCII_SUSPECT = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_LETTERS = bytes(range(0x41, 0x5B)) + bytes(range(0x61, 0x7B))
_SPACES = b" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f"
_LETTER, _SPACE = 1, 2


def clean(document: Document, cleaning: Cleaning) -> Document | Drop:
    """The document with its text mended, or the record of why it is dropped; that names the text as it came."""
    text = mend(document.text, cleaning)
    reason = why_not(text, cleaning)
    if reason is not None:
        return drop(document, STEP, reason)
    return document if text is document.text else Document(document.id, text, document.source, document.origin)


def mend(text: str, cleaning: Cleaning) -> str:
    """The text after the steps that change it."""
    if cleaning.fix_encoding:
        text = fix_encoding(text)
    return normalize(text) if cleaning.normalize else text


def why_not(text: str, cleaning: Cleaning) -> str | None:
    """The reason in `REASONS` why a mended text is not to be kept, or None."""
    if not text or text.isspace():
        return "empty"
    if len(text) < cleaning.min_characters:
        return "too_short"
    if cleaning.max_repeated_lines < 1 and repeated_lines(text) > cleaning.max_repeated_lines:
        return "repeated_lines"
    if cleaning.min_alphabetic > 0 and alphabetic(text) < cleaning.min_alphabetic:
        return "few_letters"
    if cleaning.languages and language_of(text) not in cleaning.languages:
        return "language"
    return None


def only_mended(cleaning: Cleaning) -> Cleaning:
    """The same steps without those that drop: for text that is not the domain's, such as hold-outs for forgetting."""
    return Cleaning(
        fix_encoding=cleaning.fix_encoding,
        normalize=cleaning.normalize,
        min_characters=0,
        max_repeated_lines=1.0,
        min_alphabetic=0.0,
    )


def fix_encoding(text: str) -> str:
    """Text without control characters and mojibake. Only lines that look suspect are looked into, since that is slow."""
    suspect = _ASCII_SUSPECT if text.isascii() else _SUSPECT
    if suspect.search(text) is None:
        return text
    return "\n".join(_fix_line(line) if suspect.search(line) else line for line in text.split("\n"))


def normalize(text: str) -> str:
    """Text in Unicode's form NFC, with plain line ends and without space at the ends of lines."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if " \n" in text or "\t\n" in text or "\xa0\n" in text:
        text = "\n".join([line.rstrip() for line in text.split("\n")])
    return text.rstrip()


def repeated_lines(text: str) -> float:
    """Share of lines that came before in the same text; each weighs as much as it has characters, so brackets weigh little."""
    lines = [line.strip() for line in text.split("\n")]
    total = sum(map(len, lines))
    return 1 - sum(map(len, set(lines))) / total if total else 0.0


def alphabetic(text: str) -> float:
    """Share of letters, of any script and with their marks, among the characters that are not space."""
    if text.isascii():
        content = text.encode("ascii")
        visible = len(content.translate(None, _SPACES))
        return (len(content) - len(content.translate(None, _LETTERS))) / visible if visible else 0.0
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    table = _kinds()
    kinds = table[np.minimum(codes, len(table) - 1)]
    beyond = codes >= len(table)
    if beyond.any():
        found, places = np.unique(codes[beyond], return_inverse=True)
        kinds[beyond] = np.array([_kind(code) for code in found.tolist()], dtype=np.uint8)[places]
    visible = len(codes) - int(np.count_nonzero(kinds == _SPACE))
    return int(np.count_nonzero(kinds == _LETTER)) / visible if visible else 0.0


@lru_cache(maxsize=1)
def _kinds() -> npt.NDArray[np.uint8]:
    """The kinds of the code points that most scripts keep to."""
    return np.array([_kind(code) for code in range(2**16)], dtype=np.uint8)


def _kind(code: int) -> int:
    """Whether a code point is a letter (or a letter's mark), a space or neither."""
    character = chr(code)
    if unicodedata.category(character)[0] in "LM":
        return _LETTER
    return _SPACE if character.isspace() else 0


def _fix_line(line: str) -> str:
    import ftfy

    return str(ftfy.fix_text(line, _ftfy_settings()))


@lru_cache(maxsize=1)
def _ftfy_settings() -> Any:
    """Only what is damage: quotes, ligatures, entities and wide letters are the author's."""
    import ftfy

    return ftfy.TextFixerConfig(
        unescape_html=False,
        uncurl_quotes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        fix_line_breaks=False,
        normalization=None,
        explain=False,
    )
