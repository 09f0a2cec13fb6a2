"""How often checkpoints are saved and hold-outs scored: in steps, or in seconds where the spec says a time."""

from __future__ import annotations

import math

from steep.planning.decisions import Decision, note
from steep.planning.facts import Facts
from steep.spec.job import JobSpec
from steep.spec.units import BudgetUnit, format_seconds

CHECKPOINTS_PER_RUN = 10


def _interval(
    amount: float, unit: BudgetUnit, facts: Facts, step_tokens: int, replay_share: float
) -> tuple[int | None, float | None]:
    """An interval in steps or, where it was given in time, in seconds."""
    if unit == "seconds":
        return None, amount
    if unit == "epochs":
        amount = amount * facts.train_tokens / (1 - replay_share)
    return max(1, round(amount if unit == "steps" else amount / step_tokens)), None


def checkpoints(
    spec: JobSpec, facts: Facts, total_steps: int, step_tokens: int, replay_share: float, log: list[Decision]
) -> tuple[int | None, float | None]:
    """Steps or seconds between checkpoints; a tenth of the run where the spec does not say."""
    if spec.checkpoints.every is None:
        steps = math.ceil(total_steps / CHECKPOINTS_PER_RUN)
        note(log, "checkpoint_every", f"{steps} steps", "a tenth of the run")
        return steps, None
    interval = _interval(*spec.checkpoints.every, facts, step_tokens, replay_share)
    note(log, "checkpoint_every", _spell(interval), "as given")
    return interval


def evaluations(
    spec: JobSpec, facts: Facts, step_tokens: int, replay_share: float, log: list[Decision]
) -> tuple[int | None, float | None]:
    """Steps or seconds between evaluations in training; neither means at each checkpoint."""
    if spec.evaluation.every is None:
        note(log, "evaluate_every", "each checkpoint", "hold-outs are scored where weights can be kept")
        return None, None
    interval = _interval(*spec.evaluation.every, facts, step_tokens, replay_share)
    note(log, "evaluate_every", _spell(interval), "as given")
    return interval


def _spell(interval: tuple[int | None, float | None]) -> str:
    steps, seconds = interval
    return f"{steps} steps" if seconds is None else format_seconds(seconds)
