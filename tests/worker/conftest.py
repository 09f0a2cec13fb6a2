"""What the tests of this room share: a context without a model, and an observer that remembers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.artifacts.disks import small_disk
from tests.artifacts.hubs import hub

from steep.artifacts.rundir import RunDirectory
from steep.spec.job import JobSpec
from steep.spec.reports import (
    CheckpointReport,
    EvaluationReport,
    NoticeReport,
    ProgressReport,
    StageReport,
    StepReport,
)
from steep.worker.context import Context

__all__ = ["hub", "small_disk"]

MakeContext = Callable[..., Context]


class Recorder:
    """An observer that remembers every report."""

    def __init__(self) -> None:
        self.stages: list[StageReport] = []
        self.checkpoints: list[CheckpointReport] = []
        self.notices: list[NoticeReport] = []
        self.others: list[object] = []

    def stage(self, report: StageReport) -> None:
        self.stages.append(report)

    def progress(self, report: ProgressReport) -> None:
        self.others.append(report)

    def step(self, report: StepReport) -> None:
        self.others.append(report)

    def evaluation(self, report: EvaluationReport) -> None:
        self.others.append(report)

    def checkpoint(self, report: CheckpointReport) -> None:
        self.checkpoints.append(report)

    def notice(self, report: NoticeReport) -> None:
        self.notices.append(report)

    def codes(self) -> list[str]:
        return [notice.code for notice in self.notices]


def step_report(step: int, **more: Any) -> StepReport:
    """A step like many."""
    facts = {"tokens_seen": step * 100, "loss": 2.0, "learning_rate": 1e-3, "gradient_norm": 0.5}
    return StepReport.model_validate({"step": step, "step_seconds": 0.1, "tokens_per_second": 1e3, **facts, **more})


@pytest.fixture
def heard() -> Recorder:
    return Recorder()


@pytest.fixture
def make_context(tmp_path: Path, heard: Recorder) -> MakeContext:
    """Makes a context whose spec has these values, on one run directory unless another is given."""

    def make(run: Path | None = None, should_stop: Callable[[], str | None] = lambda: None, **values: Any) -> Context:
        spec = {"name": "job", "base": "/base", "corpus": {"sources": ["/text"]}, **values}
        return Context(
            run=RunDirectory(run or tmp_path / "run"),
            spec=JobSpec.model_validate(spec),
            observer=heard,
            should_stop=should_stop,
        )

    return make
