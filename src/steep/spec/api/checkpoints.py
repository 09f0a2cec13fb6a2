"""Checkpoints over the wire."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from steep.spec.api.common import Request, View
from steep.spec.job import AnySource
from steep.spec.wording import NAME


class CheckpointView(View):
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


class PinRequest(Request):
    """Keep a checkpoint, or no longer."""

    pinned: bool


class Freed(View):
    """What a deletion gave back."""

    freed_bytes: int


class EvaluationRequest(Request):
    """Measure a checkpoint on further tasks and texts, as a job of its own."""

    tasks: tuple[str, ...] = Field((), description="lm-evaluation-harness tasks: names, or paths of local YAML files.")
    task_limit: int | None = Field(None, ge=1, description="Examples of each task at most.")
    texts: tuple[AnySource, ...] = Field(
        (), description="Texts to score in bits per byte, on the base too, so that the gain is known."
    )
    name: str | None = Field(None, pattern=NAME, description="Of the new job.")
    priority: int = Field(0, ge=-100, le=100)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.tasks or self.texts):
            raise ValueError("give tasks or texts to measure on")
        return self


class PruneRequest(Request):
    """Delete the checkpoints of a job that need not be kept. Pinned and selected ones stay, and what something descends from."""

    keep_last: int = Field(1, ge=1, description="So many of the newest are kept.")
    keep_best: int = Field(1, ge=1, description="And so many of the best: most gain within the forgetting budget.")
    only_set_aside: bool = Field(False, description="Only what was set aside when the job went back.")
    dry_run: bool = Field(False, description="Only say which would go.")


class Pruned(View):
    """Which checkpoints went, and what that gave back."""

    steps: tuple[int, ...] = ()
    aside_steps: tuple[int, ...] = Field((), description="Of lines that were set aside when the job went back.")
    freed_bytes: int = 0
