"""Events: what happened to a job, in order, for people, alerts and programs. A closed set of kinds.

The server makes them of a worker's reports and of its own decisions. They are numbered over all jobs, so that a client
that lost its connection goes on from the last number it saw.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class EventKind(StrEnum):
    """What happened."""

    CREATED = "created"
    VALIDATED = "validated"
    QUEUED = "queued"
    PAUSED = "paused"
    RELEASED = "released"
    PROVISIONED = "provisioned"
    STARTED = "started"
    STAGE = "stage"
    PROGRESS = "progress"
    NOTICE = "notice"
    LOSS_SPIKE = "loss_spike"
    CHECKPOINT_SAVED = "checkpoint_saved"
    CHECKPOINT_VERIFIED = "checkpoint_verified"
    CHECKPOINT_UPLOADED = "checkpoint_uploaded"
    CHECKPOINT_DELETED = "checkpoint_deleted"
    CHECKPOINT_DAMAGED = "checkpoint_damaged"
    CHECKPOINT_PINNED = "checkpoint_pinned"
    CHECKPOINT_UNPINNED = "checkpoint_unpinned"
    EVALUATED = "evaluated"
    FORGETTING_EXCEEDED = "forgetting_exceeded"
    GUARD_TRIGGERED = "guard_triggered"
    ROLLED_BACK = "rolled_back"
    BRANCHED = "branched"
    LIMIT_WARNED = "limit_warned"
    LIMIT_REACHED = "limit_reached"
    STOPPING = "stopping"
    PREEMPTED = "preempted"
    UNREACHABLE = "unreachable"
    REACHED_AGAIN = "reached_again"
    FENCED = "fenced"
    RETRIED = "retried"
    RESUMED = "resumed"
    SELECTED = "selected"
    EXPORTED = "exported"
    ALERT_FAILED = "alert_failed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(BaseModel):
    """One thing that happened.

    Args:
        id: its number over all jobs; grows.
        message: a sentence that says what happened and, where something was decided, why.
        data: facts for programs, such as `step`, `size_bytes`, `gain`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    job_id: str
    kind: EventKind
    time: float = Field(description="Seconds since the epoch.")
    attempt: int | None = Field(None, description="Number of the attempt, where it concerns one.")
    message: str = ""
    data: dict[str, Any] = Field(default_factory=dict)
