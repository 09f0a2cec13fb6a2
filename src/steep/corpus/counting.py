"""Counting what became of a corpus, each sum where it arises: in the units read, the parts, the drops and the datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steep.artifacts.files import atomic_writer
from steep.corpus.accounting import Ledger, SourceSums
from steep.corpus.choosing import Choice
from steep.corpus.copies import Fate
from steep.corpus.datasets import Written
from steep.corpus.encoding import DROPPED
from steep.corpus.language import middle
from steep.corpus.parts import Part, UnitRecord, drop_schema, read_drops
from steep.corpus.plan import CorpusPlan
from steep.corpus.reading import NAMED_FAILURES, Unit
from steep.spec.errors import InvalidCorpus

LANGUAGE_SAMPLE = 100


def count_reading(plan: CorpusPlan, units: Mapping[str, Sequence[Unit]]) -> Ledger:
    """A ledger with what was read.

    Raises:
        InvalidCorpus: of some source a larger share than `corpus.max_failed` of files or documents could not be read.
    """
    ledger = Ledger({name: SourceSums(role, files=len(plan.files[name])) for name, role in plan.roles.items()})
    for name, own in units.items():
        records = [unit.record for unit in own if unit.record is not None]
        row = ledger.sources[name]
        row.documents_read = sum(record.num_documents for record in records)
        row.bytes_read = sum(record.read_bytes for record in records)
        _require_readable(plan, name, records)
    return ledger


def require_text(plan: CorpusPlan, choice: Choice) -> None:
    """Refuse a corpus of which nothing is left. Raises InvalidCorpus."""
    for role, what in (("corpus", "to train on"), ("replay", "for replay"), ("general", "to measure forgetting on")):
        fate = Fate.HOLDOUT if role == "general" else Fate.TRAIN
        names = [name for name, each in plan.roles.items() if each == role]
        for group in [names] if role == "corpus" else [[name] for name in names]:
            if group and not sum(choice.decisions[name].bytes_of(fate) for name in group):
                raise InvalidCorpus(
                    f"no text is left {what}{_commonest_fate(choice, group)}",
                    where=", ".join(plan.sources[name].path for name in group),
                    cure="Loosen `cleaning`, `dedup` or `decontaminate`, or give other text.",
                )


def count_all(ledger: Ledger, parts: Mapping[str, Sequence[Part]], choice: Choice, written: Written) -> None:
    """Add what was cleaned, dropped, held out and encoded."""
    for name, row in ledger.sources.items():
        decisions, holdout = choice.decisions[name], choice.holdouts[name]
        for part in parts[name]:
            marks = part.marks("read_bytes", "text_bytes")
            row.bytes_changed += int((marks["read_bytes"] - marks["text_bytes"]).sum())
            for batch in part.drops():
                _count_drops(ledger, name, batch)
        for fate, (step, reason) in DROPPED.items():
            count = int(np.count_nonzero(decisions.fates == fate))
            if count:
                ledger.drop(name, step, reason, count, decisions.bytes_of(fate))
        row.documents_kept = int(np.count_nonzero(decisions.fates <= Fate.HOLDOUT))
        row.bytes_not_scored = holdout.left_bytes
        held = written.held_out[name]
        row.bytes_held_out, row.tokens_held_out = held.text_bytes, held.tokens
        row.tokens_added = held.documents * (1 if held.bos_id is None else 2)
        trained = written.trained.get(name)
        if trained is not None:
            row.bytes_trained, row.tokens_trained = trained.text_bytes, trained.tokens
            row.tokens_added += trained.documents * (1 if trained.bos_id is None else 2)
    ledger.engine = written.engine


def write_drops_table(path: Path, parts: Mapping[str, Sequence[Part]], files: Sequence[Path]) -> None:
    """`drops.parquet`: everything that was dropped, in the order of the steps."""
    import pyarrow.parquet as pq

    def batches() -> Iterator[Any]:
        for own in parts.values():
            for part in own:
                yield from part.drops()
        for file in files:
            yield from read_drops(file)

    with atomic_writer(path) as stream, pq.ParquetWriter(stream, drop_schema(), compression="zstd") as writer:
        for batch in batches():
            writer.write_batch(batch)


def _require_readable(plan: CorpusPlan, name: str, records: Sequence[UnitRecord]) -> None:
    """Refuse a source of which too many files, or too many documents and lines, cannot be read."""
    files = len(plan.files[name])
    failed_files = [one for record in records for one in record.failed_files]
    failures = [one for record in records for one in record.failures]
    num_failed = sum(record.num_failed for record in records)
    documents = sum(record.num_documents for record in records) + num_failed
    for failed, total, what, said in (
        (len(failed_files), files, "files", failed_files),
        (num_failed, documents, "documents", failures),
    ):
        if failed and failed > plan.spec.corpus.max_failed * total:
            more = "; ..." if failed > NAMED_FAILURES else ""
            raise InvalidCorpus(
                f"{failed} of {total} {what} cannot be read: {'; '.join(said[:NAMED_FAILURES])}{more}",
                where=plan.sources[name].path,
                cure="Mend or `exclude` them, or raise corpus.max_failed.",
            )


def _commonest_fate(choice: Choice, names: Sequence[str]) -> str:
    """The words for why documents are not there, where the second pass took them."""
    fates = np.concatenate([choice.decisions[name].fates for name in names])
    if not len(fates):
        return ": cleaning dropped every document, or there was none"
    reasons = {Fate.EVALUATION_TEXT: "it is evaluation text too", Fate.HOLDOUT: "all of it is held out"}
    return f": {reasons.get(Fate(int(np.bincount(fates).argmax())), 'it holds nothing but copies')}"


def _count_drops(ledger: Ledger, name: str, batch: Any) -> None:
    for step, reason, size in zip(
        *(batch.column(c).to_pylist() for c in ("step", "reason", "text_bytes")), strict=True
    ):
        ledger.drop(name, step, reason, 1, size)


def sample_texts(plan: CorpusPlan, choice: Choice) -> list[str]:
    """Middles of texts to train on, at equal distances over all corpus sources: to tell languages by."""
    names = plan.named("corpus")
    total = sum(int(np.count_nonzero(choice.decisions[name].fates == Fate.TRAIN)) for name in names)
    stride = max(1, total // LANGUAGE_SAMPLE)
    seen = 0
    found: list[str] = []
    for name in names:
        decisions = choice.decisions[name]
        for index, part in enumerate(decisions.parts):
            trained = decisions.fates[decisions.of_part(index)] == Fate.TRAIN
            numbers = np.flatnonzero(trained)
            wanted = np.zeros(len(trained), dtype=np.bool_)
            wanted[numbers[(-seen) % stride :: stride]] = True
            seen += len(numbers)
            found += [middle(text) for _, text in part.texts(wanted)]
    return found
