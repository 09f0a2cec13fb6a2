"""What a worker says, taken in once and in order: progress, checkpoints, measurements, events, logs, samples of its machine.

Reports are numbered from 0 over all attempts of a job, because the run directory's `reports.jsonl` is. A report below the
next number is there already, one above it comes after a gap and is left for later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, assert_never

from sqlalchemy import Row, bindparam, select, update

from steep.server.store.database import Transaction
from steep.server.store.logs import accept_lines
from steep.server.store.measurements import record_evaluation
from steep.server.store.savings import record_checkpoint
from steep.server.store.tables import device_samples, job_progress, jobs
from steep.spec.api.attempts import ReportsRequest
from steep.spec.api.jobs import Outcome, Progress
from steep.spec.events import EventKind
from steep.spec.reports import (
    CheckpointReport,
    EvaluationReport,
    NoticeReport,
    ProgressReport,
    Report,
    StageReport,
    StepReport,
)
from steep.spec.stages import Stage

PROGRESS_EVENT_SECONDS = 10.0
"""Events tell of progress this often; the job itself always shows the newest."""

_NOTICES = {
    "loss_spike": EventKind.LOSS_SPIKE,
    "not_finite": EventKind.LOSS_SPIKE,
    "rolled_back": EventKind.ROLLED_BACK,
    "resumed": EventKind.RESUMED,
    "guard_warned": EventKind.GUARD_TRIGGERED,
    "guard_stopped": EventKind.GUARD_TRIGGERED,
    "guard_rolled_back": EventKind.ROLLED_BACK,
}


_PROGRESS = select(job_progress).where(job_progress.c.job_id == bindparam("of_job"))
_TO_PROGRESS = update(job_progress).where(job_progress.c.job_id == bindparam("of_job"))


@dataclass(slots=True)
class Accepted:
    """What is there after taking in, and what of it is new.

    Args:
        next_report: number of the first report that is not there.
        next_log: by stream, the offset of the first byte that is not there.
        step: the last step that was reported just now, if one was.
    """

    next_report: int
    next_log: dict[str, int]
    step: int | None = None


@dataclass(slots=True)
class _Taking:
    """Taking in the reports of one request."""

    transaction: Transaction
    job: Row[Any]
    attempt: int
    progress: Progress
    told_at: float
    outcome: dict[str, Any] = field(default_factory=dict)
    step: int | None = None

    def tell(self, kind: EventKind, message: str, report: Report, **data: Any) -> None:
        """An event of the report's own time."""
        self.transaction.emit(
            self.job, kind, message, attempt=self.attempt, data=data, time=report.time or self.transaction.now
        )

    def goes_on(self, **changes: Any) -> None:
        """The newest progress has these fields."""
        self.progress = self.progress.model_copy(update=changes)


def accept_reports(transaction: Transaction, job: Row[Any], attempt: int, request: ReportsRequest) -> Accepted:
    """Take in what is new of a request. The job's row must be locked."""
    known = transaction.execute(_PROGRESS, {"of_job": job.id}).one()
    accepted = Accepted(known.next_report, known.next_log)
    if request.reports:
        _accept(transaction, job, attempt, request, known, accepted)
    if request.logs:
        accepted.next_log = accept_lines(transaction, job.id, attempt, request.logs, known.next_log)
        transaction.execute(_TO_PROGRESS, {"of_job": job.id, "next_log": accepted.next_log})
    if request.metrics is not None:
        sample = {"job_id": job.id, "time": request.metrics.time, "attempt": attempt}
        transaction.put(device_samples, {**sample, "sample": request.metrics.model_dump(mode="json")}, keep=True)
    return accepted


def _accept(
    transaction: Transaction,
    job: Row[Any],
    attempt: int,
    request: ReportsRequest,
    known: Row[Any],
    accepted: Accepted,
) -> None:
    taking = _Taking(transaction, job, attempt, Progress.model_validate(known.progress), known.told_at)
    for report in request.reports:
        if report.sequence < accepted.next_report:
            continue
        if report.sequence > accepted.next_report:
            break
        _take(taking, report)
        accepted.next_report += 1
    if accepted.next_report == known.next_report:
        return
    accepted.step = taking.step
    news = {"progress": taking.progress.model_dump(mode="json"), "told_at": taking.told_at}
    transaction.execute(_TO_PROGRESS, {"of_job": job.id, "next_report": accepted.next_report, **news})
    if taking.outcome:
        outcome = Outcome.model_validate({**job.outcome, **taking.outcome})
        transaction.execute(update(jobs).where(jobs.c.id == job.id).values(outcome=outcome.model_dump(mode="json")))


def _take(taking: _Taking, report: Report) -> None:
    taking.goes_on(updated_at=report.time or taking.transaction.now)
    match report:
        case StageReport():
            _stage(taking, report)
        case ProgressReport():
            taking.goes_on(stage=str(report.stage), what=report.what, done=report.done, total=report.total)
            _tell_progress(taking, report, lambda: f"{report.stage}: {report.what}")
        case StepReport():
            _step(taking, report)
        case EvaluationReport():
            record_evaluation(taking.transaction, taking.job, report, taking.tell, taking.attempt)
        case CheckpointReport():
            record_checkpoint(taking.transaction, taking.job, report, taking.tell, taking.attempt, taking.progress)
        case NoticeReport():
            kind = _NOTICES.get(report.code, EventKind.NOTICE)
            taking.tell(kind, report.message, report, code=report.code, level=report.level, step=report.step)
        case _:
            assert_never(report)


def _stage(taking: _Taking, report: StageReport) -> None:
    if report.event == "started":
        taking.goes_on(stage=str(report.stage), what="", done=None, total=None, eta_seconds=None)
    seconds = f" in {report.seconds:.1f} s" if report.event in ("completed", "stopped", "failed") else ""
    detail = f": {report.detail}" if report.detail else ""
    taking.tell(
        EventKind.STAGE,
        f"{report.stage} {report.event}{seconds}{detail}",
        report,
        stage=str(report.stage),
        event=report.event,
        seconds=report.seconds,
    )
    if report.event != "completed":
        return
    if report.stage is Stage.SELECT:
        taking.tell(EventKind.SELECTED, report.detail or "a checkpoint was selected", report)
    elif report.stage is Stage.EXPORT:
        taking.outcome["has_export"] = True
        taking.tell(EventKind.EXPORTED, report.detail or "the selected model was exported", report)


def _step(taking: _Taking, report: StepReport) -> None:
    left = None if report.total_steps is None else max(report.total_steps - report.step, 0) * report.step_seconds
    taking.step = report.step
    taking.goes_on(
        stage=str(Stage.TRAIN),
        step=report.step,
        total_steps=report.total_steps,
        tokens_seen=report.tokens_seen,
        loss=report.loss,
        tokens_per_second=report.tokens_per_second,
        mfu=report.mfu,
        eta_seconds=left,
    )
    of = "" if report.total_steps is None else f" of {report.total_steps}"
    _tell_progress(taking, report, lambda: f"step {report.step}{of}, loss {report.loss:.4g}")


def _tell_progress(taking: _Taking, report: ProgressReport | StepReport, message: Callable[[], str]) -> None:
    at = report.time or taking.transaction.now
    if 0 <= at - taking.told_at < PROGRESS_EVENT_SECONDS:  # before 0 lies what a clock said that ran ahead
        return
    taking.told_at = at
    data = taking.progress.model_dump(mode="json", exclude_none=True, exclude={"updated_at"})
    taking.tell(EventKind.PROGRESS, message(), report, **data)
