"""JSON: an array of records, read one by one; an object that is a record, or that holds an array of them; or JSON lines."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

from steep.corpus.document import text_bytes
from steep.corpus.formats.content import WHOLE_FILE_BYTES, Content, Fields, Lost, Text, Unreadable
from steep.corpus.formats.encoding import SAMPLE_BYTES, open_text
from steep.corpus.formats.jsonl import parse_lines
from steep.corpus.formats.records import Record, texts_of

_BLOCK_CHARACTERS = 1 << 20
_SPACE = " \t\r\n"


def read_json(content: Content, fields: Fields) -> Iterator[Text | Lost]:
    """The text of each record; `mark` counts them from 1. Raises as `texts_of`, and Unreadable for what is no JSON."""
    head = content.head(SAMPLE_BYTES)
    if _is_lines(head):
        yield from texts_of(parse_lines(content, fields.encoding), fields, content.name)
        return
    stream = open_text(content.stream, fields.encoding, head)
    try:
        yield from texts_of(_records(stream), fields, content.name)
    finally:
        stream.detach()


def _is_lines(head: bytes) -> bool:
    """Whether the first line is an object in itself and another one follows: JSON lines under another name."""
    first, newline, rest = head.removeprefix(codecs.BOM_UTF8).lstrip().partition(b"\n")
    if not newline or not first.startswith(b"{") or not rest.lstrip().startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _records(stream: IO[str]) -> Iterator[Record | Lost]:
    buffer = stream.read(_BLOCK_CHARACTERS).lstrip("\ufeff" + _SPACE)
    if buffer.startswith("["):
        yield from _array(stream, buffer[1:])
        return
    buffer += stream.read(WHOLE_FILE_BYTES - len(buffer))
    if stream.read(1):
        raise Unreadable(
            "too_large", f"is one object of over {WHOLE_FILE_BYTES >> 20} MiB; make it an array or JSON lines"
        )
    try:
        value = json.loads(buffer)
    except (ValueError, RecursionError) as error:
        raise Unreadable("corrupt", f"is not JSON: {error}") from error
    found = _inner_array(value)
    for mark, each in enumerate([value] if found is None else found, start=1):
        yield _record(each, mark, len(buffer) if found is None else text_bytes(json.dumps(each)))


def _inner_array(value: Any) -> list[Any] | None:
    """The only array of objects in an object that has no text of its own, such as `{"data": [...]}`."""
    if not isinstance(value, Mapping):
        return None
    arrays = [each for each in value.values() if isinstance(each, list) and each and isinstance(each[0], Mapping)]
    return arrays[0] if len(arrays) == 1 else None


def _array(stream: IO[str], buffer: str) -> Iterator[Record | Lost]:
    """The elements of an array, each parsed as soon as all of it was read."""
    decoder, mark, at = json.JSONDecoder(), 0, 0
    wanted = _BLOCK_CHARACTERS
    ended = False
    while True:
        at = _skip(buffer, at, _SPACE + ",")
        if at < len(buffer) and buffer[at] == "]":
            return
        try:
            value, end = decoder.raw_decode(buffer, at)
            if end == len(buffer) and not ended:
                raise ValueError("a number may go on in the next block")
        except (ValueError, RecursionError) as error:
            if ended or len(buffer) - at > WHOLE_FILE_BYTES or isinstance(error, RecursionError):
                yield Lost("corrupt", f"is not JSON after {mark} records: {error}", text_bytes(buffer[at:]), mark + 1)
                return
            block = stream.read(max(wanted, len(buffer) - at))  # doubled, so that a long element is not parsed often
            ended = not block
            buffer, at = buffer[at:] + block, 0
            continue
        mark += 1
        yield _record(value, mark, end - at)
        at = end


def _skip(buffer: str, at: int, characters: str) -> int:
    while at < len(buffer) and buffer[at] in characters:
        at += 1
    return at


def _record(value: Any, mark: int, size_bytes: int) -> Record | Lost:
    if isinstance(value, (Mapping, str)):
        return Record(value, mark, size_bytes)
    return Lost("no_text_field", f"is neither an object nor a string but {type(value).__name__}", size_bytes, mark)
