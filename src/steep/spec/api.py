"""What goes over the wire: requests and responses of the HTTP API under `/api/v1`.

Times are seconds since the epoch, sizes are bytes, durations are seconds. A server only ever adds fields; a client passes
over those that it does not know, so responses allow extras and requests do not.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from steep.spec.job import AnySource, JobSpec
from steep.spec.reports import Report
from steep.spec.service import Limits
from steep.spec.states import Standing

Item = TypeVar("Item")

NEXT_OFFSET_HEADER = "X-Next-Offset"
"""Of an answer with a part of a log: the offset to ask for next. It is not the number of bytes in the answer: secrets are
taken out of lines, and lines that are too long are cut."""


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")


class Problem(_View):
    """What went wrong (RFC 9457, `application/problem+json`), which field it concerns, and what to do about it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    code: str = Field("", description="Short stable name for programs, such as `invalid_spec`.")
    field: str | None = Field(None, description="Path of the field concerned, such as `corpus.sources.0.path`.")
    cure: str | None = None


class Page(_View, Generic[Item]):
    """A page of a list."""

    items: tuple[Item, ...]
    page: int = Field(1, ge=1)
    page_size: int = 50
    has_more: bool = False
    total: int | None = Field(None, description="Only where `include_total` asked for it.")


# ---------------------------------------------------------------------------------------------------------------- jobs


class JobRequest(_Request):
    """A new job. What the service needs to know stands in `spec.service`."""

    spec: JobSpec


class JobChange(_Request):
    """What may be changed of a job while it lives."""

    priority: int | None = Field(None, ge=-100, le=100)
    tags: tuple[str, ...] | None = None
    limits: Limits | None = None


class CloneRequest(_Request):
    """A new job like another. `set` holds changed fields by dotted path."""

    name: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)


class BranchRequest(_Request):
    """A new job that goes on from another's checkpoint. `set` holds changed fields by dotted path."""

    step: int = Field(ge=0)
    name: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)


class RollbackRequest(_Request):
    """Go back to a checkpoint; later ones are set aside."""

    step: int = Field(ge=0)


class Progress(_View):
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


class Cost(_View):
    """What a job has used and what that costs."""

    gpu_seconds: float = 0.0
    work_seconds: float = 0.0
    amount: float = 0.0
    currency: str = "USD"
    stored_bytes: int = 0
    freed_bytes: int = Field(0, description="Of checkpoints that were deleted.")
    expected_amount: float | None = Field(None, description="At the end, at the speed so far.")


class Outcome(_View):
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


class JobView(_View):
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


class AttemptView(_View):
    """One execution of a job."""

    number: int
    standing: Standing
    backend: str = ""
    devices: tuple[str, ...] = ()
    started_at: float
    ended_at: float | None = None
    exit_code: int | None = None
    error: Problem | None = None


class Plan(_View):
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


# --------------------------------------------------------------------------------------------------------- checkpoints


class CheckpointView(_View):
    """A checkpoint in the catalog."""

    job_id: str
    step: int
    tokens_seen: int
    created_at: float
    size_bytes: int
    attempt: int | None = None
    state: Literal["unverified", "valid", "damaged", "deleted"] = "unverified"
    verified_at: float | None = None
    uploaded: bool = False
    pinned: bool = False
    selected: bool = False
    parent: str | None = Field(None, description="`job/step` that it descends from.")
    domain_bpb: float | None = None
    general_bpb: dict[str, float] = Field(default_factory=dict)
    gain: float | None = None
    forgetting: float | None = None
    scores: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="What was measured later: metrics by task, or by `text:` and the name of a text.",
    )


class StoredFile(_View):
    """A file of a checkpoint or of an export, that can be downloaded by its path."""

    path: str = Field(description="Relative, with `/` between its parts.")
    size_bytes: int
    blake3: str | None = Field(None, description="Hash of its bytes, in hex; always there for a checkpoint's files.")


class PinRequest(_Request):
    """Keep a checkpoint, or no longer."""

    pinned: bool


class Freed(_View):
    """What a deletion gave back."""

    freed_bytes: int


class EvaluationRequest(_Request):
    """Measure a checkpoint on further tasks and texts, as a job of its own."""

    tasks: tuple[str, ...] = Field((), description="lm-evaluation-harness tasks: names, or paths of local YAML files.")
    task_limit: int | None = Field(None, ge=1, description="Examples of each task at most.")
    texts: tuple[AnySource, ...] = Field(
        (), description="Texts to score in bits per byte, on the base too, so that the gain is known."
    )
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Of the new job.")
    priority: int = Field(0, ge=-100, le=100)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.tasks or self.texts):
            raise ValueError("give tasks or texts to measure on")
        return self


class PruneRequest(_Request):
    """Delete the checkpoints of a job that need not be kept. Pinned and selected ones stay, and what something descends from."""

    keep_last: int = Field(1, ge=1, description="So many of the newest are kept.")
    keep_best: int = Field(1, ge=1, description="And so many of the best: most gain within the forgetting budget.")
    dry_run: bool = Field(False, description="Only say which would go.")


class Pruned(_View):
    """Which checkpoints went, and what that gave back."""

    steps: tuple[int, ...] = ()
    freed_bytes: int = 0


# -------------------------------------------------------------------------------------------------- worker and server


Directive = Literal["none", "cancel", "pause", "preempt"]
"""What a worker is told in the answer to its reports. All but `none`: save a checkpoint and end with exit code 3."""


class OrderAnswer(_View):
    """What the server wants of a worker that asked for orders, and waited for one."""

    directive: Directive = "none"
    directive_detail: str = ""


class LogLine(_View):
    """A line that the worker's process wrote. Its text may be shorter or longer than its bytes: secrets are taken out."""

    stream: Literal["stdout", "stderr", "log"]
    offset: int = Field(description="Of its first byte in the stream's file.")
    end: int = Field(description="Of the first byte after it and its newline: where the next line begins.")
    text: str = Field(description="Without the newline.")
    time: float = 0.0


class ReportsRequest(_Request):
    """Reports of an attempt, in order. Also its heartbeat: an empty one only renews the lease."""

    reports: tuple[Annotated[Report, Field()], ...] = ()
    logs: tuple[LogLine, ...] = ()
    metrics: DeviceSample | None = None


class DeviceSample(_View):
    """What a worker's machine does."""

    time: float
    cpu_percent: float | None = Field(None, description="Of all cores together, since the sample before.")
    memory_bytes: int | None = Field(None, description="In use by the worker's processes.")
    disk_free_bytes: int | None = Field(None, description="Where the run directory lies.")
    gpus: tuple[GpuSample, ...] = Field((), description="Those that the worker may use.")


class GpuSample(_View):
    """What one GPU does."""

    index: int
    utilization_percent: float
    memory_used_bytes: int
    memory_total_bytes: int
    temperature_celsius: float | None = None
    power_watts: float | None = None


class ReportsAnswer(_View):
    """What the server has, and what it wants.

    Args:
        next_report: sequence number of the first report that it does not have.
        next_log: by stream, the offset of the first byte that it does not have.
    """

    next_report: int
    next_log: dict[str, int] = Field(default_factory=dict)
    directive: Directive = "none"
    directive_detail: str = ""
    lease_seconds: float


# ---------------------------------------------------------------------------------------------------- keys and projects

Role = Literal["viewer", "member", "admin"]


class KeyRequest(_Request):
    """A new API key."""

    name: str = Field(min_length=1, max_length=100)
    role: Role = "member"
    project: str | None = Field(None, description="Confined to one project; none: all of them.")
    expires_in_seconds: float | None = Field(None, gt=0)


class KeyChange(_Request):
    """What may be changed of a key."""

    name: str | None = Field(None, min_length=1, max_length=100)
    role: Role | None = None


class KeyView(_View):
    """A key without its secret."""

    id: str
    name: str
    prefix: str = Field(description="First characters, to recognise it by.")
    role: Role
    project: str | None = None
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None


class NewKey(KeyView):
    """A key with its secret, which is shown this once."""

    secret: str


class KeyUsage(_View):
    """Requests made with a key, by hour or by day."""

    since: float
    bucket_seconds: float
    counts: tuple[int, ...]


class Quota(_View):
    """What a project may use at once; none is unlimited."""

    gpus: int | None = Field(None, ge=0)
    jobs: int | None = Field(None, ge=0)
    stored_bytes: int | None = Field(None, ge=0)


class Keeping(_View):
    """What a project keeps of the checkpoints of a job that has ended; what each keeps while it works, its spec says."""

    after_seconds: float | None = Field(
        None, ge=0, description="From so long after its end on; none: everything is kept until somebody deletes it."
    )
    last: int = Field(1, ge=1, description="So many of the newest.")
    best: int = Field(1, ge=1, description="And so many of the best: most gain within the forgetting budget.")


class ProjectView(_View):
    """A project, what it may use and what it uses."""

    name: str
    share: float = Field(1.0, gt=0, description="Weight in fair sharing.")
    quota: Quota = Quota()
    keep: Keeping = Keeping()
    gpus_in_use: int = 0
    jobs_in_use: int = 0
    stored_bytes: int = 0
    freed_bytes: int = Field(0, description="Of checkpoints that were deleted, of the jobs that are there.")
    created_at: float


class ProjectRequest(_Request):
    """A new project, or new settings of one."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    share: float = Field(1.0, gt=0)
    quota: Quota = Quota()
    keep: Keeping = Keeping()


# ------------------------------------------------------------------------------------------------------ files, devices


class FileView(_View):
    """An uploaded file."""

    id: str
    name: str
    project: str
    size_bytes: int
    blake3: str
    created_at: float


class DeviceView(_View):
    """A GPU or a CPU slot: what it is, who holds it."""

    id: str
    backend: str
    kind: Literal["gpu", "cpu"]
    model: str
    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    location: str = ""
    healthy: bool = True
    detail: str = ""
    job_id: str | None = None
    held_since: float | None = None
    expected_free_at: float | None = None


# -------------------------------------------------------------------------------------------------- the house itself


class SecretRequest(_Request):
    """The value of a secret. It is stored encrypted, and never shown again."""

    value: str = Field(min_length=1, max_length=64_000, repr=False)


class SecretView(_View):
    """A secret without its value: jobs name it, workers get it."""

    name: str
    project: str
    created_at: float
    updated_at: float


class AuditEntry(_View):
    """Who did what, and whether it was allowed."""

    id: int
    time: float
    actor: str = Field(description="Id of the key, or `server`.")
    action: str
    subject: str = ""
    project: str | None = None
    outcome: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


class StatusView(_View):
    """How the service is."""

    version: str
    started_at: float
    jobs: dict[str, int] = Field(default_factory=dict, description="Number of jobs by state.")
    devices: int = 0
    devices_in_use: int = 0
    devices_unusable: int = 0
    warnings: tuple[str, ...] = Field((), description="What should be looked after, as sentences.")


JobDetail.model_rebuild()
ReportsRequest.model_rebuild()
DeviceSample.model_rebuild()
