"""Alerts arrive in their order: each delivery stands in the line of its receiver, and tells since when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Those that are there already stand in lines too, by their job and whom they tell."""
    op.add_column("deliveries", sa.Column("line", sa.Text(), nullable=False, server_default=""))
    op.add_column("deliveries", sa.Column("created_at", sa.Float(), nullable=False, server_default="0"))
    job = "(SELECT job_id FROM events WHERE events.id = deliveries.event_id)"
    time = "(SELECT time FROM events WHERE events.id = deliveries.event_id)"
    op.execute(f"UPDATE deliveries SET line = {job} || '/' || alert, created_at = {time}")
    op.create_index(
        "ix_deliveries_line",
        "deliveries",
        ["line", "id"],
        sqlite_where=sa.text("next_try_at IS NOT NULL"),
        postgresql_where=sa.text("next_try_at IS NOT NULL"),
    )
