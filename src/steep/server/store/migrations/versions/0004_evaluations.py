"""Checkpoints can be measured later, by jobs that train nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """All jobs that are there train."""
    op.add_column("jobs", sa.Column("kind", sa.Text(), nullable=False, server_default="training"))
    op.create_table(
        "later_scores",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("measured_by", sa.Text(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_later_scores_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "step", "name", name=op.f("pk_later_scores")),
    )
