"""Secrets taken out of text before it leaves the machine that it was written on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

REDACTED = "[redacted]"
SHORTEST = 8
"""Shorter values are no secrets worth the name, and would be found in innocent words."""

_SECRET_NAME = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)
_PATTERNS = (
    re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/@]+(?=@)", re.IGNORECASE),  # user:password@ in a URL
    re.compile(r"(?P<keep>[?&][\w.-]*(?:token|key|secret|passw|signature|credential|\bsig)[\w.-]*=)[^\s&\"'<>#]+", re.IGNORECASE),
    re.compile(r"(?P<keep>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE),
    re.compile(r"(?P<keep>)\b(?:hf_|sk-|gh[opusr]_|github_pat_|glpat-|xox[abprs]-)[A-Za-z0-9_-]{16,}"),
    re.compile(r"(?P<keep>)\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"(?P<keep>-----BEGIN [A-Z ]*PRIVATE KEY-----).*"),
)  # fmt: skip


def is_secret_name(name: str) -> bool:
    """Whether the name of a variable says that its value is a secret."""
    return _SECRET_NAME.search(name) is not None


class Redaction:
    """Takes secrets out of lines of text: values that are known, and what looks like one.

    Args:
        values: the secrets that are known; each line of one that has several, and as they stand in URLs and in JSON.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        known = {form for value in values for line in value.splitlines() for form in _forms(line.strip())}
        longest_first = sorted((one for one in known if len(one) >= SHORTEST), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Redaction:
        """Of the variables whose names say that they are secret."""
        return cls(value for name, value in environment.items() if is_secret_name(name))

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\g<keep>{REDACTED}", text)
        return text


def _forms(value: str) -> set[str]:
    return {value, quote(value, safe=""), json.dumps(value)[1:-1]}
