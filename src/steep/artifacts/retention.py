"""Which checkpoints may go: a pure function over a table.

Never deleted: the newest valid ones, the best ones by the selection rule, pinned ones, and those that a branch or an
abandoned line descends from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """What retention must know of a checkpoint.

    Args:
        step: its step.
        gain: domain bits per byte won over the base; None when it was not scored.
        forgetting: general bits per byte lost, the worst over the sources; None when it was not scored.
        pinned: a user wants it kept.
        ancestor: a branch or an abandoned line descends from it.
        valid: every byte is right, as far as known.
    """

    step: int
    gain: float | None = None
    forgetting: float | None = None
    pinned: bool = False
    ancestor: bool = False
    valid: bool = True


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How many are kept: the newest `keep_last`, and the `keep_best` by the selection rule with this budget."""

    keep_last: int = 2
    keep_best: int = 1
    forgetting_budget: float = 0.02


def to_delete(checkpoints: Sequence[CheckpointFacts], policy: RetentionPolicy) -> list[int]:
    """The steps whose checkpoints may be deleted, oldest first. The last valid one is kept whatever the policy says."""
    valid = sorted((one for one in checkpoints if one.valid), key=lambda one: one.step)
    newest = valid[-max(policy.keep_last, 1) :]
    scored = [one for one in valid if one.gain is not None and one.forgetting is not None]
    best = sorted(scored, key=lambda one: _rank(one, policy.forgetting_budget))[: policy.keep_best]
    kept = {one.step for one in (*newest, *best)}
    kept |= {one.step for one in checkpoints if one.pinned or one.ancestor}
    return sorted(one.step for one in checkpoints if one.step not in kept)


def _rank(one: CheckpointFacts, forgetting_budget: float) -> tuple[bool, float, int]:
    """Smaller is better: most gain within the budget, then least forgetting beyond it; ties to the earlier."""
    assert one.gain is not None
    assert one.forgetting is not None
    beyond = not one.forgetting <= forgetting_budget
    return beyond, one.forgetting if beyond else -one.gain, one.step
