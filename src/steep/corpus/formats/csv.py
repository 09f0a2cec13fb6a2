"""CSV and TSV with a column of text, row by row."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from itertools import chain
from typing import IO

from steep.corpus.document import text_bytes
from steep.corpus.formats.content import Content, Fields, Lost, Text
from steep.corpus.formats.encoding import SAMPLE_BYTES, detect_head, open_text
from steep.corpus.formats.records import Record, texts_of

_DELIMITERS = ",\t;|"
_NAME_CHARACTERS = 60  # a column's name is rarely longer


def read_csv(content: Content, fields: Fields) -> Iterator[Text | Lost]:
    """The text of each row; `mark` is the line on which it ends. Raises as `texts_of`."""
    head = content.head(SAMPLE_BYTES)
    encoding = fields.encoding or detect_head(head)
    sample = head.decode(encoding, "replace")
    stream = open_text(content.stream, encoding, head)
    try:
        yield from texts_of(_rows(stream, _delimiter(sample, content.name), fields.text_field), fields, content.name)
    finally:
        stream.detach()


def _rows(stream: IO[str], delimiter: str, text_field: str | None) -> Iterator[Record | Lost]:
    if csv.field_size_limit() < sys.maxsize:
        csv.field_size_limit(sys.maxsize)  # a column of text is longer than the 128 kB that Python thinks a mistake
    reader = csv.reader(stream, delimiter=delimiter)
    first = next(reader, None)
    if first is None:
        return
    names = [name.strip().lstrip("\ufeff") for name in first]
    if not _is_header(names, text_field):
        names = [f"column{number}" for number in range(1, len(first) + 1)]
        reader = chain([first], reader)  # type: ignore[assignment]
    mark = 0
    while True:
        mark += 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Lost("broken_line", f"is no row: {error}", 0, mark)
            continue
        size_bytes = sum(text_bytes(cell) for cell in row)
        if len(row) > len(names):
            yield Lost("broken_line", f"has {len(row)} fields where there are {len(names)} columns", size_bytes, mark)
        elif row:
            yield Record(dict(zip(names, row, strict=False)), mark, size_bytes)


def _is_header(names: list[str], text_field: str | None) -> bool:
    if text_field is not None and text_field in names:
        return True
    short = all(0 < len(name) <= _NAME_CHARACTERS and not name.replace(".", "").isdecimal() for name in names)
    return short and len(set(names)) == len(names)


def _delimiter(sample: str, name: str) -> str:
    """A tab in TSV; else the one that cuts the first rows into the same number of columns, the most of them."""
    if ".tsv" in name.lower() or ".tab" in name.lower():
        return "\t"
    best, columns = ",", 1
    for delimiter in _DELIMITERS:
        rows = [
            row for _, row in zip(range(20), csv.reader(sample.splitlines()[:200], delimiter=delimiter), strict=False)
        ]
        counts = {len(row) for row in rows[:-1] or rows if row}
        if len(counts) == 1 and (count := counts.pop()) > columns:
            best, columns = delimiter, count
    return best
