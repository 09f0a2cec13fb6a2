"""Jobs say how many of the bytes that they store were set aside when they went back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """What was set aside before is counted when a job's checkpoints are pruned for the first time."""
    op.add_column("jobs", sa.Column("aside_bytes", sa.BigInteger(), nullable=False, server_default="0"))
