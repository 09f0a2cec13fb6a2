"""`results.json`: what was measured on the base, on every checkpoint and on every interpolation."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FROM_SCRATCH = "from scratch"
"""What `Results.base` says of a base with random weights."""


class Score(BaseModel):
    """One row: a model and its numbers. Everything is in bits per byte unless its name says otherwise.

    `gain` is the base's `domain_bpb` minus this one's. `forgetting` is the worst, over the general hold-outs, of this
    model's bits per byte minus the base's. The base's own row has zeros.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    kind: Literal["base", "checkpoint", "interpolation", "average"]
    step: int
    tokens_seen: int
    alpha: float | None = Field(
        None, description="Share of the checkpoint's weights in an interpolation with the base."
    )
    domain_bpb: float = Field(description="Over all domain hold-outs, weighted by bytes.")
    general_bpb: float = Field(description="Mean over the general hold-outs; for reading, never for deciding.")
    gain: float
    forgetting: float
    worst_general: str = Field("", description="The general hold-out that lost most.")
    domain: dict[str, float] = Field(default_factory=dict)
    general: dict[str, float] = Field(default_factory=dict)
    tasks: dict[str, dict[str, float]] = Field(default_factory=dict)
    selected: bool = False

    @property
    def label(self) -> str:
        """Short name for tables and charts."""
        if self.kind == "base":
            return "base"
        if self.kind == "interpolation":
            return f"step {self.step} x {self.alpha:g} + base"
        return f"step {self.step}" if self.kind == "checkpoint" else f"average at {self.step}"


class Completion(BaseModel):
    """A prompt, and how the base and the selected model go on from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    prompt: str
    base: str
    selected: str


class Results(BaseModel):
    """The whole file. `scores[0]` is the base; exactly one row is selected."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    name: str
    base: str
    forgetting_budget: float
    scores: tuple[Score, ...]
    completions: tuple[Completion, ...] = ()
    selection_reason: str = ""
    warnings: tuple[str, ...] = ()
    domain_bytes: int = 0
    general_bytes: dict[str, int] = Field(default_factory=dict)

    @property
    def selected(self) -> Score | None:
        """The selected row, if selection has run."""
        return next((score for score in self.scores if score.selected), None)

    @property
    def can_forget(self) -> bool:
        """Whether there is anything to forget, and text on which that shows; a model from scratch knew nothing."""
        return self.base != FROM_SCRATCH and bool(self.scores[0].general)
