"""From bits per byte to rows of the results table: gain, and forgetting as the worst over the general hold-outs. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from steep.spec.errors import DamagedArtifact
from steep.spec.results import Score

Kind = Literal["base", "checkpoint", "interpolation", "average"]


class Measurement(BaseModel):
    """What was measured on one model: bits per byte of each hold-out, and the bytes of text they rest on."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    domain: dict[str, float] = Field(description="Bits per byte by domain hold-out.")
    general: dict[str, float] = Field(description="Bits per byte by general hold-out.")
    domain_bytes: dict[str, int] = Field(description="UTF-8 bytes scored, by domain hold-out.")
    general_bytes: dict[str, int] = Field(description="UTF-8 bytes scored, by general hold-out.")
    tasks: dict[str, dict[str, float]] = Field(default_factory=dict)

    @property
    def domain_bpb(self) -> float:
        """Bits per byte over all domain hold-outs, each weighted by its bytes; NaN without any."""
        total = sum(self.domain_bytes.values())
        bits = sum(bpb * self.domain_bytes[name] for name, bpb in self.domain.items())
        return bits / total if total else float("nan")

    @property
    def general_bpb(self) -> float:
        """Mean over the general hold-outs: for reading, never for deciding. NaN without any."""
        return sum(self.general.values()) / len(self.general) if self.general else float("nan")


def base_score(base: Measurement) -> Score:
    """The base's own row, which all others are compared with."""
    return score_row("base", base, base, step=0, tokens_seen=0)


def score_row(
    kind: Kind,
    measured: Measurement,
    base: Measurement,
    *,
    step: int,
    tokens_seen: int,
    alpha: float | None = None,
) -> Score:
    """The row of a model beside the base measured on the same text.

    Args:
        kind: what the model is.
        measured: its numbers.
        base: the base's numbers.
        step: optimizer step of its weights.
        tokens_seen: tokens trained until then.
        alpha: share of the checkpoint's weights, in an interpolation with the base.

    Raises:
        DamagedArtifact: the two were not measured on the same hold-outs.
    """
    if (measured.domain_bytes, measured.general_bytes) != (base.domain_bytes, base.general_bytes):
        raise DamagedArtifact(
            "was measured on other text than the base",
            where=f"{kind} at step {step}",
            cure="Run again without the old scores in the run's evaluation directory.",
        )
    lost = {name: bpb - base.general[name] for name, bpb in measured.general.items()}
    worst = max(
        lost, key=lambda name: (math.isnan(lost[name]), lost[name]), default=""
    )  # no number hides that one is none
    return Score(
        kind=kind,
        step=step,
        tokens_seen=tokens_seen,
        alpha=alpha,
        domain_bpb=measured.domain_bpb,
        general_bpb=measured.general_bpb,
        gain=base.domain_bpb - measured.domain_bpb,
        forgetting=lost[worst] if worst else 0.0,
        worst_general=worst if kind != "base" else "",
        domain=measured.domain,
        general=measured.general,
        tasks=measured.tasks,
    )


def frontier(scores: Sequence[Score]) -> list[int]:
    """Indices of the rows that no other beats on both axes (more gain and less forgetting), by rising gain.

    Of rows with equal numbers the first stands for all.
    """
    best = float("inf")
    kept: list[int] = []
    order = sorted(range(len(scores)), key=lambda i: (-scores[i].gain, scores[i].forgetting, i))
    for index in order:
        if scores[index].forgetting < best:
            best = scores[index].forgetting
            kept.append(index)
    return kept[::-1]
