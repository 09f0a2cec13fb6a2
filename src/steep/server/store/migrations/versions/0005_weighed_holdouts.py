"""Domain hold-outs count by their bytes, as in a run's results."""

from __future__ import annotations

import json
import math

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """What was measured before keeps its plain mean: how many bytes each hold-out has, nobody knows any more."""
    op.add_column("evaluations", sa.Column("domain_bytes", sa.Text()))
    op.add_column("evaluations", sa.Column("domain_bpb", sa.Float()))
    table = sa.table("evaluations", *(sa.column(name) for name in ("job_id", "step", "domain", "domain_bpb")))
    same = (table.c.job_id == sa.bindparam("job")) & (table.c.step == sa.bindparam("at"))
    rows = op.get_bind().execute(sa.select(table.c.job_id, table.c.step, table.c.domain)).all()
    means = [{"job": row.job_id, "at": row.step, "mean": _mean(json.loads(row.domain))} for row in rows]
    if means:
        op.get_bind().execute(sa.update(table).where(same).values(domain_bpb=sa.bindparam("mean")), means)


def _mean(scores: dict[str, float | str]) -> float | None:
    numbers = [float(score) for score in scores.values()]
    mean = sum(numbers) / len(numbers) if numbers else math.nan
    return mean if math.isfinite(mean) else None
