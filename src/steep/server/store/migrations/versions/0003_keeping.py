"""Projects say which checkpoints of jobs that have ended they keep; jobs, what deleting has freed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Projects that are there keep everything, as they did."""
    op.add_column("projects", sa.Column("keep_after", sa.Float()))
    op.add_column("projects", sa.Column("keep_last", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("projects", sa.Column("keep_best", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("jobs", sa.Column("freed_bytes", sa.BigInteger(), nullable=False, server_default="0"))
