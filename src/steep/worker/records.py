"""What was measured of each model of a run: one small file a model in RUN/evaluation.

They outlive the checkpoints they speak of, so the table of results keeps rows whose weights retention has deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, ValidationError

from steep.artifacts.files import write_atomic
from steep.evaluate.compare import Kind, Measurement
from steep.spec.reports import EvaluationReport
from steep.train.observer import Silent

_ORDER: tuple[Kind, ...] = ("base", "checkpoint", "average", "interpolation")


class Record(BaseModel):
    """A model of this run and its numbers.

    `lineage` is the fingerprint of the training that made the model (empty for the base) and `holdouts` that of the
    text it was scored on; a record of another training or on other text is not comparable and is passed over.
    `tasks_asked` is that of the job's tasks, once they have been run on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    kind: Kind
    step: int
    tokens_seen: int
    alpha: float | None = None
    lineage: str
    holdouts: str
    tasks_asked: str = ""
    measured: Measurement

    @property
    def name(self) -> str:
        """The stem of its file."""
        if self.kind == "base":
            return "base"
        suffix = "" if self.alpha is None else f"-alpha-{self.alpha:g}"
        return f"{self.kind}-{self.step:08d}{suffix}"


class Records:
    """The records of one run, as far as they are comparable.

    Args:
        directory: where they lie.
        lineage: fingerprint of the run's training.
        holdouts: of the text that is scored.
        ancestry: trainings that this one goes on from, and the last step of each that belongs to it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        lineage: str,
        holdouts: str,
        ancestry: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.directory = directory
        self.lineage = lineage
        self.holdouts = holdouts
        self.ancestry = ancestry

    def write(
        self,
        kind: Kind,
        measured: Measurement,
        *,
        step: int = 0,
        tokens_seen: int = 0,
        alpha: float | None = None,
        tasks_asked: str = "",
    ) -> Record:
        """Record a model's numbers, in place of earlier ones of the same model."""
        record = Record(
            kind=kind,
            step=step,
            tokens_seen=tokens_seen,
            alpha=alpha,
            lineage="" if kind == "base" else self.lineage,
            holdouts=self.holdouts,
            tasks_asked=tasks_asked,
            measured=measured,
        )
        write_atomic(self.directory / f"{record.name}.json", record.model_dump_json(indent=1))
        return record

    def read(self) -> list[Record]:
        """The base's record first, then checkpoints, averages and interpolations by step."""
        found = []
        for path in sorted(self.directory.glob("*.json")):
            try:
                record = Record.model_validate_json(path.read_bytes())
            except ValidationError:
                continue  # of another version of this program: measured anew
            ours = record.lineage in ("", self.lineage) or record.step <= self.ancestry.get(record.lineage, -1)
            if record.holdouts == self.holdouts and ours:
                found.append(record)
        return sorted(found, key=lambda one: (_ORDER.index(one.kind), one.step, one.alpha or 0.0))

    def base(self) -> Record | None:
        """The base's record."""
        return next((record for record in self.read() if record.kind == "base"), None)


class RecordsEvaluations(Silent):
    """An observer that turns evaluations made in training into records, so they outlive their checkpoints."""

    def __init__(self, records: Records, base: Measurement) -> None:
        self._records = records
        self._base = base

    def evaluation(self, report: EvaluationReport) -> None:
        """Record it; the same text was scored as for the base, so the bytes are the same."""
        measured = self._base.model_copy(
            update={"domain": report.domain_bpb, "general": report.general_bpb, "tasks": {}}
        )
        self._records.write("checkpoint", measured, step=report.step, tokens_seen=report.tokens_seen)
