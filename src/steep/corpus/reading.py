"""First pass over a corpus: files are read and cleaned, unit by unit, into parts on disk.

A unit is some small files of one source, or one large file. What a unit's files and the steps decide is its name, so a unit that
is complete is never read again unless one of them changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from steep.artifacts.files import hash_text, write_atomic
from steep.corpus.clean import clean
from steep.corpus.document import Document, Drop
from steep.corpus.extract import FAILURES, extract
from steep.corpus.formats.registry import ARCHIVES, COMPRESSIONS, RECORD_FORMATS, format_by_name, without_compression
from steep.corpus.parts import Part, UnitRecord
from steep.corpus.sources import SourceFile
from steep.corpus.workers import Workers
from steep.spec.job import Cleaning, Source

VERSION = "read-1"  # another one when the same files would be read or cleaned to other text
PART_BYTES = 8 << 20
UNIT_BYTES = 16 << 20
NAMED_FAILURES = 3  # of each unit
_SLOW_BYTES = 16  # bytes of text that take as long to read as one byte of a format that must be taken apart
_ORDINARY = frozenset(("empty", "no_text_field"))  # drops that are no failure: such files lie in most directories
_HARMLESS = frozenset(("text", "code", "jsonl", "csv"))
_PLAIN = frozenset(("text", "code", *RECORD_FORMATS, *COMPRESSIONS, *ARCHIVES))

Progress = Callable[[str, float, float | None], None]


def is_harmless(file: SourceFile) -> bool:
    """Whether a file is read a little at a time, with nothing in it to be taken apart: by what hardly ever brings a process down."""
    name = file.path
    while (kind := format_by_name(name)) in COMPRESSIONS:
        name = without_compression(name)
    return kind in _HARMLESS


@dataclass(frozen=True, slots=True)
class Steps:
    """What is done to each document of a source, and what it is to be recognised by later."""

    cleaning: Cleaning
    near: bool
    runs: bool


@dataclass(frozen=True, slots=True)
class Unit:
    """Files that are read as one.

    Attributes:
        directory: where its parts lie.
        source: what the spec says of their source.
        files: the files.
        steps: what is done to their documents.
    """

    directory: Path
    source: Source
    files: tuple[SourceFile, ...]
    steps: Steps

    @property
    def name(self) -> str:
        """The source's name."""
        return self.files[0].source

    @property
    def effort_bytes(self) -> int:
        """Bytes of plain text that would take as long."""
        return sum(map(_effort_bytes, self.files))

    @property
    def record(self) -> UnitRecord | None:
        """What reading it came to, if it is complete."""
        path = self.directory / "unit.json"
        return UnitRecord.model_validate_json(path.read_bytes()) if path.exists() else None

    @property
    def parts(self) -> list[Part]:
        """Its parts, once it is complete."""
        record = self.record
        assert record is not None
        return [Part(self.directory, number) for number in range(record.num_parts)]


def make_units(work: Path, source: Source, files: Sequence[SourceFile], steps: Steps) -> list[Unit]:
    """Files of one source, in their order, as units of about `UNIT_BYTES`."""
    groups: list[list[SourceFile]] = []
    size = 0
    for file in files:
        effort = _effort_bytes(file)
        if not groups or size + effort > UNIT_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += effort
    return [_make_unit(work, source, tuple(group), steps) for group in groups]


def read_units(units: Sequence[Unit], workers: Workers, progress: Progress) -> None:
    """Read every unit that is not complete yet, over the processes."""
    total = sum(len(unit.files) for unit in units)
    todo = [unit for unit in units if unit.record is None]
    done = total - sum(len(unit.files) for unit in todo)
    progress("files read", done, total)
    effort = sum(unit.effort_bytes for unit in todo)
    alone = workers.are_worth(effort) and len(todo) < workers.num_workers
    # too few for every process: read here, cleaned there
    spread = (_read_spread(unit, workers) for unit in todo)
    for record in spread if alone else workers.map(read_unit, todo, effort):
        done += record.num_files
        progress("files read", done, total)


def get_ready(_: None = None) -> None:
    """Nothing; but a process that is asked for it has loaded what reading needs."""


def read_unit(unit: Unit) -> UnitRecord:
    """Read, clean and write one unit. Parts of the same documents, from a reading that was interrupted, are kept."""
    batches = _Batches(unit)
    for batch in batches:
        write_batch(batch)
    return batches.finish()


def _read_spread(unit: Unit, workers: Workers) -> UnitRecord:
    """The same, but batches are cleaned and written by the workers."""
    batches = _Batches(unit)
    for _ in workers.map(write_batch, batches, unit.effort_bytes):
        pass
    return batches.finish()


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents as they were read, and what could not be, on their way into a part."""

    part: Part
    steps: Steps
    items: list[Document | Drop]

    @property
    def fingerprint(self) -> str:
        """Of what was read. A file that took too long once may not the next time, and then all behind it shifts."""
        return hash_text(*map(_fact, self.items))


def _fact(item: Document | Drop) -> str:
    if isinstance(item, Drop):
        return f"{item.id} {item.reason} {item.text_bytes}"
    return f"{item.id} {item.text_bytes}"


def write_batch(batch: Batch) -> None:
    """Clean a batch and write it as a part, unless that was done already."""
    made_of = batch.fingerprint
    if batch.part.is_made_of(made_of):
        return
    kept: list[Document] = []
    read_bytes: list[int] = []
    drops: list[Drop] = []
    for item in batch.items:
        found = clean(item, batch.steps.cleaning) if isinstance(item, Document) else item
        if isinstance(found, Drop):
            drops.append(found)
        else:
            kept.append(found)
            read_bytes.append(item.text_bytes if isinstance(item, Document) else 0)
    steps = batch.steps
    batch.part.write(kept, read_bytes, drops, made_of=made_of, near=steps.near, runs=steps.runs)


class _Batches:
    """The batches of a unit, in order, with a count of what passed."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._num_parts = self._num_documents = self._read_bytes = self._num_failed = 0
        self._failures: list[str] = []
        self._failed_files: list[str] = []

    def __iter__(self) -> Iterator[Batch]:
        items: list[Document | Drop] = []
        size = 0
        for file in self._unit.files:
            for item in self._read(file):
                items.append(item)
                size += item.text_bytes if isinstance(item, Document) else 0
                if size >= PART_BYTES:
                    yield self._batch(items)
                    items, size = [], 0
        if items:
            yield self._batch(items)

    def finish(self) -> UnitRecord:
        """Record that the unit is complete."""
        record = UnitRecord(
            num_parts=self._num_parts,
            num_files=len(self._unit.files),
            num_documents=self._num_documents,
            read_bytes=self._read_bytes,
            num_failed=self._num_failed,
            failures=tuple(self._failures),
            failed_files=tuple(self._failed_files),
        )
        write_atomic(self._unit.directory / "unit.json", record.model_dump_json(indent=1))
        return record

    def _read(self, file: SourceFile) -> Iterator[Document | Drop]:
        """Documents and drops of a file; a file of which nothing but a failure comes out counts as failed."""
        failure: str | None = None
        before = self._num_documents
        for item in extract(file, self._unit.source):
            self._read_bytes += item.text_bytes
            if isinstance(item, Document):
                self._num_documents += 1
            elif item.reason not in _ORDINARY:
                self._num_failed += 1
                said = f"{item.origin}: {item.excerpt}"
                failure = failure or (said if item.reason in FAILURES else None)
                self._failures += [said] if len(self._failures) < NAMED_FAILURES else []
            yield item
        if failure is not None and self._num_documents == before:
            self._failed_files.append(failure)

    def _batch(self, items: list[Document | Drop]) -> Batch:
        part = Part(self._unit.directory, self._num_parts)
        self._num_parts += 1
        return Batch(part, self._unit.steps, items)


def _make_unit(work: Path, source: Source, files: tuple[SourceFile, ...], steps: Steps) -> Unit:
    name = hash_text(
        VERSION,
        source.model_dump_json(exclude={"weight", "name"}),
        *(f"{file.source}|{file.path}|{file.size_bytes}|{file.version}" for file in files),
        steps.cleaning.model_dump_json(),
        f"{steps.near} {steps.runs}",
    )
    return Unit(work / name[:32], source, files, steps)


def _effort_bytes(file: SourceFile) -> int:
    plain = format_by_name(file.path) in _PLAIN
    return max(file.size_bytes, 1) * (1 if plain else _SLOW_BYTES)
