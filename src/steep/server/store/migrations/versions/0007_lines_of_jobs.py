"""Jobs that wait are found line by line, each in the order of its age; and those that are not far back at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """In place of an index that no query used any more."""
    op.drop_index("ix_jobs_queue", table_name="jobs")
    line = ("priority", "project", "gpu_count", "gpu", "location")
    op.create_index("ix_jobs_line", "jobs", ["state", *line, "queued_at", "id"])
    not_far_back = sa.text("state = 'queued' AND detail NOT LIKE '%more than 100 jobs ahead'")
    op.create_index(
        "ix_jobs_not_far_back", "jobs", ["state", "id"], sqlite_where=not_far_back, postgresql_where=not_far_back
    )
