"""Parquet: the column of text alone, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from steep.corpus.formats.content import Content, Fields, Lost, Text, Unreadable, seekable
from steep.corpus.formats.records import SAMPLE_RECORDS, Record, choose_field, texts_of

_BATCH_ROWS = 256
_BUFFER_BYTES = 1 << 20


def read_parquet(content: Content, fields: Fields) -> Iterator[Text | Lost]:
    """The text of each row; `mark` counts them from 1. Raises as `texts_of`, and Unreadable for a damaged file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with seekable(content.stream) as stream:
        try:
            file = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            if file.metadata.num_rows == 0:
                return
            name = choose_field(_first_rows(file), fields, content.name)
            chosen = Fields(name, fields.encoding, fields.strict)
            yield from texts_of(_rows(file, name), chosen, content.name)
        except (pa.ArrowException, OSError) as error:  # Arrow says OSError of damaged pages
            raise Unreadable("corrupt", f"is no readable parquet: {error}") from error


def _first_rows(file: Any) -> list[dict[str, Any]]:
    """The first rows, all columns; one that holds no value in them counts as text when its type is."""
    batch = next(file.iter_batches(batch_size=SAMPLE_RECORDS), None)
    return [] if batch is None else list(batch.to_pylist())


def _rows(file: Any, name: str) -> Iterator[Record | Lost]:
    columns = [name] if name in file.schema_arrow.names else [name, name.partition(".")[0]]
    mark = 0
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False):
        for row in batch.to_pylist():
            mark += 1
            size_bytes = sum(len(value) for value in row.values() if isinstance(value, str))
            yield Record(row, mark, size_bytes)
