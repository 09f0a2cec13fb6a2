"""Finished parts of a corpus on disk, while it is prepared: cleaned texts, what they are recognised by, and what was dropped.

WORK/<unit>/
  texts-00000.arrow          id, origin, text of what was kept; in batches of about a megabyte, compressed
  marks-00000.safetensors    see `Marks`; written last: the part is whole; and what it was made of
  drops-00000.arrow          what was dropped, if anything
  unit.json                  written last: the unit is complete
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from steep.artifacts.files import atomic_writer
from steep.corpus.columns import read_arrays, read_facts, strings, write_arrays
from steep.corpus.decontaminate import RUN_WORDS, sample_runs
from steep.corpus.dedup import Signatures, content_hashes, signatures
from steep.corpus.document import Document, Drop
from steep.corpus.words import Hashes, Positions, Rows, word_hashes

_BATCH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Marks:
    """What the documents of a part are recognised by, one row a document.

    Attributes:
        read_bytes: their sizes before cleaning.
        text_bytes: their sizes after it.
        content: `[num_docs, 2]` hashes of the texts, see `dedup.content_hashes`.
        signature: `[num_docs, 128]`, or `[num_docs, 0]` where near-copies are not looked for.
        runs: sampled runs of 13 words, one document's after the other's; none where evaluation text is not looked for.
        run_stops: where each document's end.
        num_runs: how many runs each document has in all.
    """

    read_bytes: Positions
    text_bytes: Positions
    content: Hashes
    signature: Signatures
    runs: Hashes
    run_stops: Positions
    num_runs: Positions

    @classmethod
    def of(cls, documents: Sequence[Document], read_bytes: Sequence[int], *, near: bool, runs: bool) -> Marks:
        """The marks of some cleaned documents; signatures and runs only where they are asked for."""
        texts = [document.text for document in documents]
        words = word_hashes(texts) if near or runs else Rows(np.zeros(0, np.uint64), np.zeros(len(texts), np.int64))
        sampled = sample_runs(words) if runs else Rows(np.zeros(0, np.uint64), np.zeros(len(texts), np.int64))
        num_words = words.stops - words.starts
        return cls(
            read_bytes=np.array(read_bytes, dtype=np.int64),
            text_bytes=np.array([document.text_bytes for document in documents], dtype=np.int64),
            content=content_hashes(texts),
            signature=signatures(words) if near else np.zeros((len(texts), 0), dtype=np.uint32),
            runs=sampled.values,
            run_stops=sampled.stops,
            num_runs=np.where(num_words == 0, 0, np.maximum(num_words - RUN_WORDS + 1, 1)),
        )


class UnitRecord(BaseModel):
    """What reading one unit came to; its file is written last.

    Attributes:
        num_parts: parts that it was written to.
        num_files: files that it is made of.
        num_documents: documents that came out of them.
        read_bytes: their text, and what could not be read.
        num_failed: files, members of archives and lines that could not be read.
        failures: what was wrong with the first of them.
        failed_files: what was wrong with files of which nothing could be read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_parts: int
    num_files: int
    num_documents: int
    read_bytes: int
    num_failed: int = 0
    failures: tuple[str, ...] = ()
    failed_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a unit on disk."""

    directory: Path
    number: int

    def write(
        self,
        kept: Sequence[Document],
        read_bytes: Sequence[int],
        drops: Sequence[Drop],
        *,
        made_of: str,
        near: bool,
        runs: bool,
    ) -> None:
        """Write it: what was kept of one batch of documents, with sizes before cleaning, and what was dropped.

        Args:
            kept, read_bytes, drops: of the batch.
            made_of: fingerprint of the batch. What was made of another one is replaced.
            near, runs: see `Marks.of`.
        """
        for stem, suffix in (("marks", "safetensors"), ("drops", "arrow")):
            self._path(stem, suffix).unlink(missing_ok=True)
        marks = Marks.of(kept, read_bytes, near=near, runs=runs)
        if drops:
            write_drops(self._path("drops", "arrow"), drops)
        self._write_texts(kept, marks.text_bytes)
        arrays = {each.name: getattr(marks, each.name) for each in fields(marks)}
        write_arrays(self._path("marks", "safetensors"), arrays, {"made_of": made_of})

    def is_made_of(self, fingerprint: str) -> bool:
        """Whether it is whole, and was made of the batch with this fingerprint."""
        path = self._path("marks", "safetensors")
        return path.exists() and read_facts(path).get("made_of") == fingerprint

    def marks(self, *names: str) -> dict[str, npt.NDArray[Any]]:
        """Some of its marks, by name."""
        return read_arrays(self._path("marks", "safetensors"), *names)

    def texts(self, wanted: npt.NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        """Numbers and texts of those documents that are wanted; batches without any are not read."""
        for numbers, rows in self._rows(("text",), wanted):
            yield from zip(numbers, rows[0], strict=True)

    def documents(self, source: str, wanted: npt.NDArray[np.bool_]) -> Iterator[tuple[int, Document]]:
        """Numbers and documents of those wanted."""
        for numbers, rows in self._rows(("id", "origin", "text"), wanted):
            for number, identity, origin, text in zip(numbers, *rows, strict=True):
                yield number, Document(identity, text, source, origin)

    def drops(self) -> Iterator[Any]:
        """Arrow batches of what was dropped."""
        path = self._path("drops", "arrow")
        if path.exists():
            yield from read_drops(path)

    def _rows(
        self, columns: tuple[str, ...], wanted: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[list[int], list[list[str]]]]:
        """Batch by batch, the numbers of the documents wanted and their values in some columns."""
        import pyarrow as pa

        with pa.memory_map(str(self._path("texts", "arrow"))) as stream:
            schema = pa.ipc.open_file(stream).schema
            options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in columns])
            reader = pa.ipc.open_file(stream, options=options)
            bounds = [int(stop) for stop in (schema.metadata or {}).get(b"stops", b"").split()]
            for index, (first, stop) in enumerate(zip([0, *bounds], bounds, strict=False)):
                numbers = np.flatnonzero(wanted[first:stop]).tolist()
                if numbers:
                    batch = reader.get_batch(index)
                    found = [[column[number].as_py() for number in numbers] for column in map(batch.column, columns)]
                    yield [first + number for number in numbers], found

    def _write_texts(self, kept: Sequence[Document], sizes: Positions) -> None:
        import pyarrow as pa

        bounds = _bounds(sizes)
        schema = pa.schema(
            [(name, pa.large_string()) for name in ("id", "origin", "text")],
            metadata={"stops": " ".join(map(str, bounds))},
        )
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with (
            atomic_writer(self._path("texts", "arrow")) as stream,
            pa.ipc.new_file(stream, schema, options=options) as writer,
        ):
            for first, stop in zip([0, *bounds], bounds, strict=False):
                rows = kept[first:stop]
                columns = ([row.id for row in rows], [row.origin for row in rows], [row.text for row in rows])
                writer.write_batch(pa.record_batch([strings(column) for column in columns], schema=schema))

    def _path(self, stem: str, suffix: str) -> Path:
        return self.directory / f"{stem}-{self.number:05d}.{suffix}"


def _bounds(sizes: Positions) -> list[int]:
    """Where batches of about a megabyte end; no batch is empty."""
    bounds, held = [], 0
    for number, size in enumerate(sizes.tolist(), start=1):
        held += size
        if held >= _BATCH_BYTES or number == len(sizes):
            bounds.append(number)
            held = 0
    return bounds


def drop_schema() -> Any:
    """Columns of `drops.parquet` and of the files it is made from."""
    import pyarrow as pa

    names = [each.name for each in fields(Drop)]
    return pa.schema([(name, pa.int64() if name == "text_bytes" else pa.large_string()) for name in names])


def drop_batch(drops: Sequence[Drop]) -> Any:
    """Drops as an Arrow batch."""
    import pyarrow as pa

    columns = []
    for name in drop_schema().names:
        values = [getattr(one, name) for one in drops]
        columns.append(pa.array(np.array(values, dtype=np.int64)) if name == "text_bytes" else strings(values))
    return pa.record_batch(columns, schema=drop_schema())


def write_drops(path: Path, drops: Sequence[Drop]) -> None:
    """Write drops to an Arrow file."""
    import pyarrow as pa

    with atomic_writer(path) as stream, pa.ipc.new_file(stream, drop_schema()) as writer:
        writer.write_batch(drop_batch(drops))


def read_drops(path: Path) -> Iterator[Any]:
    """Arrow batches of a file that `write_drops` wrote."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as stream:
        reader = pa.ipc.open_file(stream)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)
