"""Jobs and their attempts over the wire."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from steep.spec.api.common import Problem, Request, View
from steep.spec.job import JobSpec
from steep.spec.service import Limits
from steep.spec.states import Standing


class JobRequest(Request):
    """A new job. What the service needs to know stands in `spec.service`."""

    spec: JobSpec


class JobChange(Request):
    """What may be changed of a job while it lives."""

    priority: int | None = Field(None, ge=-100, le=100)
    tags: tuple[str, ...] | None = None
    limits: Limits | None = Field(None, description="A limit that is not given stays; null takes one away.")


class CloneRequest(Request):
    """A new job like another. `set` holds changed fields by dotted path."""

    name: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)


class BranchRequest(Request):
    """A new job that goes on from another's checkpoint. `set` holds changed fields by dotted path."""

    step: int = Field(ge=0)
    name: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)


class RollbackRequest(Request):
    """Go back to a checkpoint; later ones are set aside."""

    step: int = Field(ge=0)


class Progress(View):
    """How far a job is."""

    stage: str | None = None
    what: str = ""
    done: float | None = None
    total: float | None = None
    step: int = 0
    total_steps: int | None = None
    tokens_seen: int = 0
    loss: float | None = None
    tokens_per_second: float | None = None
    mfu: float | None = None
    eta_seconds: float | None = Field(None, description="Of the stage in work.")
    updated_at: float | None = None


class Cost(View):
    """What a job has used and what that costs."""

    gpu_seconds: float = 0.0
    work_seconds: float = 0.0
    amount: float = 0.0
    currency: str = "USD"
    stored_bytes: int = Field(0, description="Of its checkpoints, those that were set aside too.")
    freed_bytes: int = Field(0, description="Of checkpoints that were deleted.")
    aside_bytes: int = Field(0, description="Of what is stored: of checkpoints that were set aside when it went back.")
    expected_amount: float | None = Field(None, description="At the end, at the speed so far.")


class Outcome(View):
    """What a job came to, as far as it is known."""

    selected: str = Field(
        "", description="The model that was selected, which may be a mix of a checkpoint with its base."
    )
    selected_step: int | None = Field(None, description="Of the checkpoint that it is, or is made from.")
    gain: float | None = None
    forgetting: float | None = None
    forgetting_budget: float | None = None
    selection_reason: str = ""
    has_export: bool = False


class AttemptView(View):
    """One execution of a job."""

    number: int
    standing: Standing
    backend: str = ""
    devices: tuple[str, ...] = ()
    started_at: float
    ended_at: float | None = None
    exit_code: int | None = None
    error: Problem | None = None


class JobView(View):
    """A job as its owner sees it."""

    id: str
    name: str
    project: str
    tags: tuple[str, ...] = ()
    base: str
    standing: Standing
    priority: int = 0
    position: int | None = Field(None, description="Place in the queue, from 1; only while it waits.")
    estimated_start: float | None = None
    progress: Progress = Progress()
    cost: Cost = Cost()
    limits: Limits = Limits()
    outcome: Outcome = Outcome()
    attempts: int = 0
    kind: Literal["training", "evaluation"] = Field(
        "training", description="An evaluation measures a checkpoint of its parent, and trains nothing."
    )
    parent: str | None = Field(
        None, description="Id of the job that this one branched from, or a checkpoint of which it measures."
    )
    parent_step: int | None = Field(None, description="Step of that checkpoint.")
    created_by: str = ""
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None


class JobDetail(JobView):
    """A job with its spec, its attempts and its newest notices."""

    spec: JobSpec
    attempt_list: tuple[AttemptView, ...] = ()


class Plan(View):
    """The answer to a dry run: what a job would take, before anyone pays."""

    valid: bool = True
    tokens: int | None = None
    steps: int | None = None
    memory_bytes: int | None = None
    seconds: float | None = None
    cost: float | None = None
    currency: str = "USD"
    decisions: tuple[dict[str, str], ...] = Field((), description="Every derived number: field, value, reason.")
    notes: tuple[str, ...] = Field((), description="What the numbers rest on, as sentences.")
    warnings: tuple[str, ...] = Field((), description="What should be looked after, as sentences.")
