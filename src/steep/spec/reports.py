"""What a worker says while it works: a closed set of typed reports, one JSON object a line.

The run directory's `reports.jsonl` holds them in order; consoles, plots and the service read the same ones.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from steep.spec.stages import Stage


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    time: float = Field(0.0, description="Seconds since the epoch; set when the report is written.")
    sequence: int = Field(0, description="Number of the report in its run; set when the report is written.")


class StageReport(_Report):
    """A stage began, ended, was stopped to go on later, or was skipped because its result was already there."""

    kind: Literal["stage"] = "stage"
    stage: Stage
    event: Literal["started", "completed", "skipped", "stopped", "failed"]
    seconds: float = 0.0
    detail: str = ""


class ProgressReport(_Report):
    """Part of a stage's work is done."""

    kind: Literal["progress"] = "progress"
    stage: Stage
    what: str = Field(description="What is counted, such as 'files read'.")
    done: float
    total: float | None = None


class StepReport(_Report):
    """One optimizer step. Loss is the mean over the step's tokens, in nats per token."""

    kind: Literal["step"] = "step"
    step: int
    total_steps: int | None = None
    tokens_seen: int
    loss: float
    learning_rate: float
    gradient_norm: float
    step_seconds: float
    tokens_per_second: float
    mfu: float | None = Field(None, description="Model FLOPs utilisation, where the device's peak is known.")
    peak_memory_bytes: int = 0
    skipped: bool = Field(False, description="The update was not applied: non-finite or a spike.")


class EvaluationReport(_Report):
    """Hold-outs scored at a step, in bits per byte by hold-out name."""

    kind: Literal["evaluation"] = "evaluation"
    step: int
    tokens_seen: int
    domain_bpb: dict[str, float]
    general_bpb: dict[str, float]
    domain_bytes: dict[str, int] = Field(
        default_factory=dict,
        description="Of the base: bytes of each domain hold-out; every later model is scored on the same.",
    )


class CheckpointReport(_Report):
    """Something happened to a checkpoint."""

    kind: Literal["checkpoint"] = "checkpoint"
    step: int
    event: Literal["saved", "verified", "deleted", "set_aside", "uploaded", "upload_failed", "rejected"]
    size_bytes: int = 0
    tokens_seen: int = Field(0, description="Of a saved one.")
    stall_seconds: float = 0.0
    detail: str = ""


class NoticeReport(_Report):
    """A sentence for people: a warning, a decision with its reason, a rollback."""

    kind: Literal["notice"] = "notice"
    level: Literal["info", "warning", "error"] = "info"
    code: str = Field(description="Short stable name, such as 'too_little_text' or 'loss_spike'.")
    message: str
    step: int | None = None


Report = Annotated[
    StageReport | ProgressReport | StepReport | EvaluationReport | CheckpointReport | NoticeReport,
    Field(discriminator="kind"),
]
REPORT: TypeAdapter[Report] = TypeAdapter(Report)
