"""Measurements on hold-outs, as workers report them: bits per byte, gain and forgetting, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Row, select

from steep.server.store.database import Transaction
from steep.server.store.tables import evaluations
from steep.spec.events import EventKind
from steep.spec.reports import EvaluationReport, Report


class Tell(Protocol):
    """Makes an event of a report."""

    def __call__(self, kind: EventKind, message: str, report: Report, **data: Any) -> None:
        """See `Transaction.emit`."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Hold-outs scored at a step, in bits per byte. Gain and forgetting are against the base, which is step 0.

    `domain_bpb` is the plain mean of the domain hold-outs: their sizes are not reported. `results.json` weighs them.
    """

    step: int
    tokens_seen: int
    time: float
    domain: Mapping[str, float]
    general: Mapping[str, float]
    domain_bpb: float | None
    gain: float | None
    forgetting: float | None


def record_evaluation(
    transaction: Transaction, job: Row[Any], report: EvaluationReport, tell: Tell, attempt: int
) -> None:
    """Write a measurement, and tell of it; tell too when forgetting has just gone beyond the job's budget."""
    base = report if report.step == 0 else _at(transaction.connection, job.id, 0)
    base_domain, base_general = _numbers(base)
    gain = _less(_mean(base_domain), _mean(report.domain_bpb)) if base is not None else None
    forgetting = _forgetting(base_general, report.general_bpb)
    row = {
        "job_id": job.id,
        "step": report.step,
        "attempt": attempt,
        "tokens_seen": report.tokens_seen,
        "time": report.time or transaction.now,
        "domain": report.domain_bpb,
        "general": report.general_bpb,
        "gain": gain,
        "forgetting": forgetting,
    }
    before = _newest_before(transaction.connection, job.id, report.step)
    transaction.put(evaluations, row)
    told = [] if gain is None else [f"gain {gain:+.4f}"]
    told += [] if forgetting is None else [f"forgetting {forgetting:+.4f}"]
    words = ", ".join(told) or "no gain or forgetting to tell"
    tell(
        EventKind.EVALUATED, f"step {report.step}: {words}", report, step=report.step, gain=gain, forgetting=forgetting
    )
    budget = job.forgetting_budget
    exceeded_before = before is not None and before.forgetting is not None and before.forgetting > budget
    if forgetting is not None and forgetting > budget and not exceeded_before:
        message = f"step {report.step} has forgotten {forgetting:.4f} bits per byte; {budget:g} are allowed"
        tell(EventKind.FORGETTING_EXCEEDED, message, report, step=report.step, forgetting=forgetting, budget=budget)


def read_evaluations(connection: Connection, job_id: str) -> list[Evaluation]:
    """All measurements of a job, by step."""
    rows = connection.execute(select(evaluations).where(evaluations.c.job_id == job_id).order_by(evaluations.c.step))
    return [
        Evaluation(
            step=row.step,
            tokens_seen=row.tokens_seen,
            time=row.time,
            domain=row.domain,
            general=row.general,
            domain_bpb=_mean(row.domain),
            gain=row.gain,
            forgetting=row.forgetting,
        )
        for row in rows
    ]


def _at(connection: Connection, job_id: str, step: int) -> Row[Any] | None:
    return connection.execute(
        select(evaluations).where(evaluations.c.job_id == job_id, evaluations.c.step == step)
    ).one_or_none()


def _newest_before(connection: Connection, job_id: str, step: int) -> Row[Any] | None:
    return connection.execute(
        select(evaluations)
        .where(evaluations.c.job_id == job_id, evaluations.c.step < step)
        .order_by(evaluations.c.step.desc())
        .limit(1)
    ).one_or_none()


def _numbers(base: EvaluationReport | Row[Any] | None) -> tuple[Mapping[str, float], Mapping[str, float]]:
    if base is None:
        return {}, {}
    if isinstance(base, EvaluationReport):
        return base.domain_bpb, base.general_bpb
    return base.domain, base.general


def _mean(scores: Mapping[str, Any]) -> float | None:
    numbers = [float(score) for score in scores.values()]  # "NaN" is a string in JSON
    return _finite(sum(numbers) / len(numbers)) if numbers else None


def _forgetting(base: Mapping[str, Any], scores: Mapping[str, Any]) -> float | None:
    lost = [float(scores[name]) - float(base[name]) for name in scores if name in base]
    return _finite(max(lost)) if lost and not any(map(math.isnan, lost)) else None


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
