"""What is wrong with a value, in words: pydantic tells a name's pattern as a regular expression, which few people read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
PROJECT = r"^[a-z0-9][a-z0-9-]{0,39}$"

_PATTERNS = {
    NAME: "is made of letters, digits, dots, dashes and underscores, at most 100, and begins with a letter or a digit",
    PROJECT: "is made of small letters, digits and dashes, at most 40, and begins with a letter or a digit",
}


def words_of(issue: Mapping[str, Any]) -> str:
    """One of the issues that a ValidationError tells of, as the rest of a sentence about the field."""
    context = issue.get("ctx", {})
    if issue["type"] == "string_pattern_mismatch" and context["pattern"] in _PATTERNS:
        return f"{issue['input']!r} is none: it {_PATTERNS[context['pattern']]}"
    if issue["type"] == "string_too_short" and context["min_length"] == 1:
        return "is empty"
    return str(issue["msg"]).removeprefix("Value error, ")
