"""JSON lines: one object, or one string, a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from steep.corpus.document import text_bytes
from steep.corpus.formats.content import Content, Fields, Lost, Text
from steep.corpus.formats.encoding import SAMPLE_BYTES, decode, detect_head, is_utf8, open_text
from steep.corpus.formats.records import Record, texts_of

MAX_LINE_BYTES = 256 << 20


def read_jsonl(content: Content, fields: Fields) -> Iterator[Text | Lost]:
    """The text of each line; a broken line is lost with its number, and the next one is read. Raises as `texts_of`."""
    return texts_of(parse_lines(content, fields.encoding), fields, content.name)


def parse_lines(content: Content, encoding: str | None) -> Iterator[Record | Lost]:
    """The value of each line that is not blank."""
    encoding = encoding or detect_head(content.head(SAMPLE_BYTES))
    lines = _utf8_lines(content) if is_utf8(encoding) else _other_lines(content, encoding)
    for mark, (line, size_bytes) in enumerate(lines, start=1):
        if line is None:
            yield Lost("too_large", f"the line is over {MAX_LINE_BYTES >> 20} MiB", size_bytes, mark)
            continue
        try:
            if line.strip():
                yield Record(_parse(line), mark, size_bytes)
        except (ValueError, RecursionError) as error:
            yield Lost("broken_line", f"is not JSON: {error}", size_bytes, mark)


def _parse(line: str) -> Any:
    value = json.loads(line)
    if not isinstance(value, (dict, str)):
        raise ValueError(f"neither an object nor a string but {type(value).__name__}")
    return value


def _utf8_lines(content: Content) -> Iterator[tuple[str | None, int]]:
    """Each line with its size in bytes; None in place of one that is too long to hold."""
    while line := content.stream.readline(MAX_LINE_BYTES + 1):
        size_bytes = len(line)
        if size_bytes <= MAX_LINE_BYTES:
            yield _decoded(line), size_bytes
            continue
        while line and not line.endswith(b"\n"):
            line = content.stream.readline(MAX_LINE_BYTES)
            size_bytes += len(line)
        yield None, size_bytes


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        return decode(line, "utf-8")


def _other_lines(content: Content, encoding: str) -> Iterator[tuple[str | None, int]]:
    wrapper = open_text(content.stream, encoding, content.head(SAMPLE_BYTES))
    try:
        for line in wrapper:
            yield line, text_bytes(line)
    finally:
        wrapper.detach()
