"""What training says to the world: six verbs, each with its report, and a silent default.

Training never knows who listens: the run directory's `reports.jsonl`, a metrics service, a terminal, or nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from steep.spec.errors import Stopped
from steep.spec.reports import (
    CheckpointReport,
    EvaluationReport,
    NoticeReport,
    ProgressReport,
    StageReport,
    StepReport,
)


class Observer(Protocol):
    """Whoever listens to a run. Called from one thread, in order; should return quickly."""

    def stage(self, report: StageReport) -> None:
        """A stage began, ended or was skipped."""

    def progress(self, report: ProgressReport) -> None:
        """Part of a stage's work is done."""

    def step(self, report: StepReport) -> None:
        """An optimizer step was made or skipped."""

    def evaluation(self, report: EvaluationReport) -> None:
        """Hold-outs were scored."""

    def checkpoint(self, report: CheckpointReport) -> None:
        """Something happened to a checkpoint."""

    def notice(self, report: NoticeReport) -> None:
        """A sentence for people."""


class Silent:
    """Nobody listens."""

    def stage(self, report: StageReport) -> None:
        """Say nothing."""

    def progress(self, report: ProgressReport) -> None:
        """Say nothing."""

    def step(self, report: StepReport) -> None:
        """Say nothing."""

    def evaluation(self, report: EvaluationReport) -> None:
        """Say nothing."""

    def checkpoint(self, report: CheckpointReport) -> None:
        """Say nothing."""

    def notice(self, report: NoticeReport) -> None:
        """Say nothing."""


class Several:
    """Passes every report on to several observers, in order.

    An observer that fails never ends the work: the others are told of its first failure, and it is still told of what
    follows, since it may recover. Only `Stopped` passes through: the run directory's observer raises it when the disk
    is full, and then the run must pause.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)
        self._failed: set[int] = set()

    def stage(self, report: StageReport) -> None:
        """Pass it on."""
        self._tell(lambda observer: observer.stage(report))

    def progress(self, report: ProgressReport) -> None:
        """Pass it on."""
        self._tell(lambda observer: observer.progress(report))

    def step(self, report: StepReport) -> None:
        """Pass it on."""
        self._tell(lambda observer: observer.step(report))

    def evaluation(self, report: EvaluationReport) -> None:
        """Pass it on."""
        self._tell(lambda observer: observer.evaluation(report))

    def checkpoint(self, report: CheckpointReport) -> None:
        """Pass it on."""
        self._tell(lambda observer: observer.checkpoint(report))

    def notice(self, report: NoticeReport) -> None:
        """Pass it on."""
        self._tell(lambda observer: observer.notice(report))

    def _tell(self, verb: Callable[[Observer], None]) -> None:
        newly_failed: list[NoticeReport] = []
        for index, observer in enumerate(self._observers):
            try:
                verb(observer)
            except Stopped:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a metrics service raises, training goes on
                if index not in self._failed:
                    self._failed.add(index)
                    newly_failed.append(_failure(observer, error))
        for notice in newly_failed:
            self.notice(notice)


def _failure(observer: Observer, error: Exception) -> NoticeReport:
    name = type(observer).__name__
    return NoticeReport(
        level="warning",
        code="observer_failed",
        message=f"the observer {name} failed ({type(error).__name__}: {error}); the run goes on and keeps telling it",
    )
