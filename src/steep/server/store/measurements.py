"""Measurements on hold-outs, as workers report them: bits per byte, gain and forgetting, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Row, insert, literal, select

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

    `domain_bpb` weighs the domain hold-outs by their bytes, as `results.json` does; where those are not known, all count the same.
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
    base_domain, base_general, sizes = _numbers(base)
    domain_bpb = _weighed(report.domain_bpb, sizes)
    gain = _less(_weighed(base_domain, sizes), domain_bpb) if base is not None else None
    forgetting = _forgetting(base_general, report.general_bpb)
    row = {
        "job_id": job.id,
        "step": report.step,
        "attempt": attempt,
        "tokens_seen": report.tokens_seen,
        "time": report.time or transaction.now,
        "domain": report.domain_bpb,
        "general": report.general_bpb,
        "domain_bytes": report.domain_bytes or None,
        "domain_bpb": domain_bpb,
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
            domain_bpb=row.domain_bpb,
            gain=row.gain,
            forgetting=row.forgetting,
        )
        for row in rows
    ]


def inherit_base(transaction: Transaction, job_id: str, parent: str) -> None:
    """A job that goes on from another's checkpoint has the same base, which is measured once and not again."""
    names = [column.name for column in evaluations.c if column.name != "job_id"]
    base = select(literal(job_id), *(evaluations.c[name] for name in names)).where(
        evaluations.c.job_id == parent, evaluations.c.step == 0
    )
    transaction.execute(insert(evaluations).from_select(["job_id", *names], base))


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


def _numbers(
    base: EvaluationReport | Row[Any] | None,
) -> tuple[Mapping[str, float], Mapping[str, float], Mapping[str, int]]:
    if base is None:
        return {}, {}, {}
    if isinstance(base, EvaluationReport):
        return base.domain_bpb, base.general_bpb, base.domain_bytes
    return base.domain, base.general, base.domain_bytes or {}


def _weighed(scores: Mapping[str, Any], sizes: Mapping[str, int]) -> float | None:
    """Bits per byte of all domain hold-outs together."""
    weights = {name: sizes.get(name, 0) for name in scores}
    if not any(weights.values()):
        weights = dict.fromkeys(scores, 1)
    bits = sum(float(score) * weights[name] for name, score in scores.items())  # "NaN" is a string in JSON
    return _finite(bits / sum(weights.values())) if weights else None


def _forgetting(base: Mapping[str, Any], scores: Mapping[str, Any]) -> float | None:
    lost = [float(scores[name]) - float(base[name]) for name in scores if name in base]
    return _finite(max(lost)) if lost and not any(map(math.isnan, lost)) else None


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
