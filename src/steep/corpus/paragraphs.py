"""Cutting a long text into documents at blank lines, as it streams by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n[\n\r]*")
_LINE = re.compile(rb"\n")
_SPACE = re.compile(rb"[ \t]")


def cut_paragraphs(blocks: Iterable[str], max_bytes: int) -> Iterator[tuple[str, int]]:
    """Pieces of a text, each with the number of the line on which it begins; their concatenation is the text.

    A piece ends at a blank line, else at a line's end, else between words, and is of more than half of `max_bytes` where
    that can be; the end of a text is shared out evenly rather than left as a crumb.

    Args:
        blocks: the text, in blocks cut anywhere.
        max_bytes: UTF-8 bytes of a piece at most; at least 8.
    """
    buffer, line = b"", 1
    for block in blocks:
        buffer += block.encode("utf-8", "surrogatepass")
        start = 0
        while len(buffer) - start >= 2 * max_bytes:
            stop = _stop(buffer, start, max_bytes)
            yield _decoded(buffer[start:stop]), line
            line += buffer.count(b"\n", start, stop)
            start = stop
        buffer = buffer[start:]
    start = 0
    while start < len(buffer):
        rest = len(buffer) - start
        stop = len(buffer) if rest <= max_bytes else _stop(buffer, start, min(max_bytes, (rest + max_bytes // 2) // 2))
        yield _decoded(buffer[start:stop]), line
        line += buffer.count(b"\n", start, stop)
        start = stop


def _stop(buffer: bytes, start: int, max_bytes: int) -> int:
    """Where the piece from `start` ends, when there is more text after it than `max_bytes`."""
    limit = start + max_bytes
    for end in (_BLANK_LINE, _LINE, _SPACE):
        stops = [found.end() for found in end.finditer(buffer, start + max_bytes // 2, limit)]
        if stops:
            return stops[-1]
    while buffer[limit] & 0xC0 == 0x80:  # never inside a character
        limit -= 1
    return limit


def _decoded(piece: bytes) -> str:
    return piece.decode("utf-8", "surrogatepass")
