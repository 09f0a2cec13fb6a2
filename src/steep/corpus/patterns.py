"""Glob patterns on paths with `/`, the same for directories, archives, buckets and hub datasets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

WILDCARDS = re.compile(r"[*?\[]")
_TOKEN = re.compile(r"(?P<tree>\*\*/)|(?P<all>\*\*)|(?P<star>\*)|(?P<one>\?)|(?P<set>\[!?\]?[^\]]*\])")


def matches(path: str, patterns: Sequence[str], *, anchored: bool = False) -> bool:
    """Whether a relative path matches one of the patterns.

    `*` and `?` stay within one part of the path, `**` crosses parts. Unless `anchored`, a pattern without `/` is matched at
    any depth. One that names a directory (`tests/`) matches all that lies below it.
    """
    return any(_compile(pattern, anchored).fullmatch(path) for pattern in patterns)


def split_at_wildcard(path: str) -> tuple[str, str]:
    """A path's directory part before its first wildcard, with the `/`, and the rest, which is the pattern."""
    found = WILDCARDS.search(path)
    cut = path.rfind("/", 0, found.start() if found else len(path)) + 1
    return path[:cut], path[cut:]


@lru_cache(maxsize=1024)
def _compile(pattern: str, anchored: bool) -> re.Pattern[str]:
    pattern = pattern.removeprefix("./")
    if pattern.endswith("/"):
        pattern += "**"
    if not anchored and "/" not in pattern.removesuffix("/**"):
        pattern = f"**/{pattern}"
    expression, position = "", 0
    for token in _TOKEN.finditer(pattern):
        expression += re.escape(pattern[position : token.start()]) + _translate(token)
        position = token.end()
    return re.compile(expression + re.escape(pattern[position:]), re.DOTALL)


def _translate(token: re.Match[str]) -> str:
    """The regular expression of one wildcard."""
    if token["set"]:
        inside = token["set"][1:-1].replace("\\", r"\\")
        return f"[^/{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
    return {"tree": "(?:.*/)?", "all": ".*", "star": "[^/]*", "one": "[^/]"}[str(token.lastgroup)]
