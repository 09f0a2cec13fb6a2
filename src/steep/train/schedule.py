"""The learning rate as a pure function of the step.

    wsd        warmup, stable, then `1 - sqrt(progress)` (Haegele et al. 2024, arXiv:2405.18392)
    cosine     warmup, then half a cosine
    linear     warmup, then a straight line
    constant   warmup, then the peak

The descent of all but the constant one would reach `final_share` of the peak one step after the last, so that the
last update still moves the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["wsd", "cosine", "linear", "constant"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """The numbers that the rate follows from.

    Args:
        peak_rate: after warmup.
        total_steps: steps of the run.
        warmup_steps: steps in which the rate rises linearly; the last of them has the peak.
        decay_steps: last steps, in which WSD lowers the rate; the other kinds do not look at it.
        kind: the shape.
        final_share: where the descent ends, as a share of the peak; the constant kind does not look at it.
    """

    peak_rate: float
    total_steps: int
    warmup_steps: int = 0
    decay_steps: int = 0
    kind: Kind = "wsd"
    final_share: float = 0.0


def rate(step: int, schedule: Schedule) -> float:
    """The rate of the update that follows `step` earlier ones."""
    if step < schedule.warmup_steps:
        return schedule.peak_rate * (step + 1) / schedule.warmup_steps
    falling_steps = schedule.total_steps - schedule.warmup_steps
    if schedule.kind == "wsd":
        falling_steps = min(schedule.decay_steps, falling_steps)
    fallen_steps = step - (schedule.total_steps - falling_steps) + 1
    if schedule.kind == "constant" or falling_steps <= 0 or fallen_steps <= 0:
        return schedule.peak_rate
    height = _shape(schedule.kind, min(1.0, fallen_steps / (falling_steps + 1)))
    return schedule.peak_rate * (schedule.final_share + (1 - schedule.final_share) * height)


def _shape(kind: Kind, progress: float) -> float:
    """From 1 at the beginning of the descent to 0 at its end."""
    if kind == "wsd":
        return 1 - math.sqrt(progress)
    if kind == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    return 1 - progress
