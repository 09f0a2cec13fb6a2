"""The tables. What they mean together is in `store.py`; how they came to be, in `migrations/`.

    projects --< jobs --< attempts --< device_leases         keys --< key_use      secrets      audit
         |         |---- job_specs, job_tags, job_progress    files                 loops        idempotency
                                                                                           marks
         |         |---< checkpoints, evaluations, later_scores    counters
         |         |---< log_chunks, device_samples
         |         `---< events --< deliveries

Times are seconds since the epoch. A job's or an attempt's standing is four columns (state, reason, detail, since), and
`version` grows with every change of it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    and_,
    literal_column,
    not_,
    text,
)

from steep.server.placement import MANY_AHEAD
from steep.server.store.columns import Json, Real, Words
from steep.spec.states import State

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
# SQLite numbers rows by itself only where the key is an INTEGER; its integers have 64 bits anyway.
BigId = BigInteger().with_variant(Integer, "sqlite")


def _required(name: str, kind: Any, *more: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, *more, nullable=False, **options)


def _job(*, primary_key: bool = True) -> Column[Any]:
    return Column("job_id", Words, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=primary_key, nullable=False)


def _standing() -> list[Column[Any]]:
    return [
        _required("state", Words),
        _required("reason", Words),
        _required("detail", Words),
        _required("since", Real),
        _required("version", Integer),
    ]


counters = Table(
    "counters", metadata, Column("name", Words, primary_key=True), _required("value", BigInteger)
)  # numbers that are given out in the order of commits, unlike those of a sequence

# -------------------------------------------------------------------------------------------------- projects and keys

projects = Table(
    "projects",
    metadata,
    Column("name", Words, primary_key=True),
    _required("share", Real),
    Column("quota_gpus", Integer),
    Column("quota_jobs", Integer),
    Column("quota_stored_bytes", BigInteger),
    Column("keep_after", Real),  # seconds after a job's end; none: all of its checkpoints are kept
    _required("keep_last", Integer),
    _required("keep_best", Integer),
    _required("created_at", Real),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Words, primary_key=True),
    _required("name", Words),
    _required("prefix", Words),
    _required("hash", Words, unique=True),
    _required("role", Words),
    Column("project", Words, ForeignKey("projects.name")),
    _required("created_at", Real),
    Column("expires_at", Real),
    Column("revoked_at", Real),
    Column("last_used_at", Real),
)

key_use = Table(
    "key_use",
    metadata,
    Column("key_id", Words, ForeignKey("keys.id", ondelete="CASCADE"), primary_key=True),
    Column("hour", Integer, primary_key=True),  # hours since the epoch
    _required("count", Integer),
)

# --------------------------------------------------------------------------------------------------- jobs and attempts

LINE = ("priority", "project", "gpu_count", "gpu", "location")
"""Jobs that are alike in these differ in age alone: they stand in one line."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", Words, primary_key=True),
    _required("name", Words),
    _required("project", Words, ForeignKey("projects.name")),
    _required("base", Words),
    _required("priority", Integer),
    Column("gpu", Words),
    Column("gpu_count", Integer),
    Column("location", Words),
    _required("limits", Json),
    _required("limits_told", Json),  # which warnings and stops were told, see server/limits.py
    _required("alerts", Json),
    Column("stop_when_idle", Real),
    Column("deadline", Real),
    _required("max_attempts", Integer),
    _required("forgetting_budget", Real),
    _required("kind", Words),
    Column("parent", Words),
    Column("parent_step", Integer),
    _required("created_by", Words),
    _required("created_at", Real),
    _required("queued_at", Real),  # its age in the queue counts from here
    _required("not_before", Real),  # no attempt begins earlier: it is backing off
    Column("started_at", Real),
    Column("ended_at", Real),
    _required("attempts", Integer),
    _required("gpu_seconds", Real),  # of attempts that have ended, as the next two
    _required("work_seconds", Real),
    _required("cost", Real),
    _required("stored_bytes", BigInteger),
    _required("freed_bytes", BigInteger),
    _required("aside_bytes", BigInteger),  # of the stored ones, those of lines that were set aside
    _required("outcome", Json),
    *_standing(),
    Index(None, "state", "created_at"),
    Index(None, "project", "state"),
    Index(None, "project", "created_at"),
    Index(None, "created_at"),
    Index(None, "name"),
    # who asks for the same stands in one line, whose first are read and no more
    Index("ix_jobs_line", "state", *LINE, "queued_at", "id"),
)
IS_QUEUED = jobs.c.state == literal_column(f"'{State.QUEUED}'")
IS_FAR_BACK = jobs.c.detail.like(literal_column(f"'%{MANY_AHEAD}'"))
"""In words that the database knows again: these two find what the next index holds."""
Index(
    "ix_jobs_not_far_back",
    jobs.c.state,
    jobs.c.id,
    sqlite_where=and_(IS_QUEUED, not_(IS_FAR_BACK)),
    postgresql_where=and_(IS_QUEUED, not_(IS_FAR_BACK)),
)

job_specs = Table("job_specs", metadata, _job(), _required("spec", Json))  # apart: lists never need it, and it is large

job_tags = Table(
    "job_tags",
    metadata,
    _job(),
    Column("tag", Words, primary_key=True),
    _required("position", Integer),
    Index(None, "tag", "job_id"),
)

job_progress = Table(
    "job_progress",
    metadata,
    _job(),
    _required("next_report", BigInteger),
    _required("next_log", Json),
    _required("progress", Json),
    _required("told_at", Real),  # when an event last told of it
)

attempts = Table(
    "attempts",
    metadata,
    _job(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _required("token_hash", Words),
    _required("lease_expires_at", Real),
    _required("backend", Words),
    Column("handle", Words),
    _required("devices", Json),
    _required("gpus", Integer),
    _required("price_per_second", Real),
    _required("started_at", Real),
    Column("worked_at", Real),  # first report
    Column("ended_at", Real),
    Column("revoked_at", Real),
    Column("exit_code", Integer),
    Column("error", Json),
    Column("step", Integer),  # the last one that it reported
    *_standing(),
    # two living attempts of a job cannot be written
    Index(
        "ix_attempts_living",
        "job_id",
        unique=True,
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
    Index(
        "ix_attempts_lease",
        "lease_expires_at",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
)

device_leases = Table(
    "device_leases",
    metadata,
    Column("backend", Words, primary_key=True),  # a device is lent once
    Column("device_id", Words, primary_key=True),
    _required("job_id", Words),
    _required("attempt", Integer),
    _required("since", Real),
    ForeignKeyConstraint(["job_id", "attempt"], ["attempts.job_id", "attempts.number"], ondelete="CASCADE"),
    Index(None, "job_id"),
)

# -------------------------------------------------------------------------------------------------- what jobs leave

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    _job(primary_key=False),
    _required("project", Words),
    _required("kind", Words),
    _required("time", Real),
    Column("attempt", Integer),
    _required("message", Words),
    _required("data", Json),
    Index(None, "job_id", "id"),
    Index(None, "project", "id"),
    Index(None, "kind", "time"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", BigId, primary_key=True),
    _required("event_id", BigInteger, ForeignKey("events.id", ondelete="CASCADE")),
    _required("line", Words),  # a receiver of a job, which gets the job's events in their order
    _required("alert", Json),
    _required("created_at", Real),
    Column("next_try_at", Real),  # none: delivered, or given up
    _required("tries", Integer),
    Column("delivered_at", Real),
    _required("error", Words),
    Index(None, "next_try_at"),
    Index(None, "event_id"),
    Index(
        "ix_deliveries_line",
        "line",
        "id",
        sqlite_where=text("next_try_at IS NOT NULL"),
        postgresql_where=text("next_try_at IS NOT NULL"),
    ),
)

log_chunks = Table(
    "log_chunks",
    metadata,
    _job(),
    Column("stream", Words, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    _required("end", BigInteger),
    _required("attempt", Integer),
    _required("text", Words),
    _required("time", Real),
    Index(None, "time"),
)

device_samples = Table(
    "device_samples",
    metadata,
    _job(),
    Column("time", Real, primary_key=True),
    _required("attempt", Integer),
    _required("sample", Json),
    Index(None, "time"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    _job(),
    Column("step", Integer, primary_key=True, autoincrement=False),
    _required("attempt", Integer),
    _required("tokens_seen", BigInteger),
    _required("created_at", Real),
    _required("size_bytes", BigInteger),
    _required("state", Words),
    Column("verified_at", Real),
    Column("deleted_at", Real),
    _required("uploaded", Boolean),
    _required("pinned", Boolean),
    _required("selected", Boolean),
    Column("parent", Words),
    Index(None, "state", "verified_at"),
)

evaluations = Table(
    "evaluations",
    metadata,
    _job(),
    Column("step", Integer, primary_key=True, autoincrement=False),
    _required("attempt", Integer),
    _required("tokens_seen", BigInteger),
    _required("time", Real),
    _required("domain", Json),
    _required("general", Json),
    Column("domain_bytes", Json),  # of the base alone
    Column("domain_bpb", Real),
    Column("gain", Real),
    Column("forgetting", Real),
)

later_scores = Table(
    "later_scores",
    metadata,
    _job(),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("name", Words, primary_key=True),  # of a task, or `text:` and that of a text
    _required("measured_by", Words),  # a job
    _required("time", Real),
    _required("metrics", Json),
)

# -------------------------------------------------------------------------------------------- files and the house itself

files = Table(
    "files",
    metadata,
    Column("id", Words, primary_key=True),
    _required("name", Words),
    _required("project", Words, ForeignKey("projects.name")),
    _required("size_bytes", BigInteger),
    _required("blake3", Words),
    _required("created_by", Words),
    _required("created_at", Real),
    Index(None, "project", "created_at"),
)

secrets = Table(
    "secrets",
    metadata,
    Column("project", Words, ForeignKey("projects.name"), primary_key=True),
    Column("name", Words, primary_key=True),
    _required("ciphertext", LargeBinary),
    _required("created_at", Real),
    _required("updated_at", Real),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigId, primary_key=True),
    _required("time", Real),
    _required("actor", Words),
    _required("action", Words),
    _required("subject", Words),
    Column("project", Words),
    _required("outcome", Words),
    _required("data", Json),
    Index(None, "project", "time"),
    Index(None, "subject"),
    Index(None, "time"),
)

marks = Table(
    "marks", metadata, Column("name", Words, primary_key=True), _required("value", Words)
)  # of the whole house

idempotency = Table(
    "idempotency",
    metadata,
    Column("scope", Words, primary_key=True),
    Column("key", Words, primary_key=True),
    _required("request_hash", Words),
    _required("response_id", Words),
    _required("created_at", Real),
    Index(None, "created_at"),
)

loops = Table(
    "loops",
    metadata,
    Column("name", Words, primary_key=True),
    _required("holder", Words),
    _required("expires_at", Real),
    _required("turn", Integer),  # grows when it changes hands
)
