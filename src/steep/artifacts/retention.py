"""Which checkpoints may go: a pure function over a table.

Never deleted: the newest valid ones, the best ones by the selection rule, pinned ones, and those that a branch or an
abandoned line descends from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# As the selection rule has them: a smaller gain is none, and a smaller excess over the budget is rounding.
LEAST_GAIN_BPB = 1e-4
ROUNDING_BPB = 1e-9


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """What retention must know of a checkpoint.

    Args:
        step: its step.
        gain: domain bits per byte won over the base; None when there is no score, NaN when no text of the domain is held out.
        forgetting: general bits per byte lost, the worst over the sources; None or NaN when there is no score.
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
    """The steps whose checkpoints may be deleted, oldest first. The last valid one is kept whatever the policy says.

    What the selection rule would choose among all of them is kept, or one whose gain differs by less than decides.
    """
    valid = sorted((one for one in checkpoints if one.valid), key=lambda one: one.step)
    newest = valid[-max(policy.keep_last, 1) :]
    kept = {one.step for one in newest} | set(best_first(valid, policy.forgetting_budget)[: policy.keep_best])
    kept |= {one.step for one in checkpoints if one.pinned or one.ancestor}
    return sorted(one.step for one in checkpoints if one.step not in kept)


def best_first(checkpoints: Sequence[CheckpointFacts], forgetting_budget: float) -> list[int]:
    """The steps of those that have scores, the best by the selection rule first; those that gain nothing come last.

    Where no text of the domain is held out and so no gain is known, the newest within the budget comes first.
    """
    ranked = [(rank, one.step) for one in checkpoints if (rank := _rank(one, forgetting_budget))]
    return [step for _, step in sorted(ranked)]


def _rank(one: CheckpointFacts, budget: float) -> tuple[int, float] | None:
    """Smaller is better: most gain within the budget, then least forgetting beyond it, then what gains nothing, then what has
    no gain that is known."""
    gain, forgetting = one.gain, one.forgetting
    if gain is None or forgetting is None or math.isinf(gain) or not math.isfinite(forgetting):
        return None
    within = forgetting <= budget + ROUNDING_BPB
    if math.isnan(gain):
        return (3, -one.step) if within else (4, forgetting)
    if gain <= LEAST_GAIN_BPB:
        return 2, -gain
    return (0, -gain) if within else (1, forgetting)
