"""The guard against forgetting: what follows when a run forgets more than its budget, evaluation after evaluation. Pure.

General ability can drop early in continued pretraining and come back (the stability gap, arXiv 2406.14833), so evaluations
count only after the warmup and a tenth of the run. Two in a row beyond the budget are a trend, one may be chance.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from steep.artifacts.retention import LEAST_GAIN_BPB, ROUNDING_BPB, CheckpointFacts, best_first
from steep.planning.decisions import Decision
from steep.planning.recipe import Recipe

PATIENCE = 2  # evaluations in a row
DIP_SHARE = 0.1  # of the run
MAX_ROLLBACKS = 2
RATE_FACTOR, REPLAY_FACTOR = 0.5, 2.0
MAX_REPLAY_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Scored:
    """One evaluation in training.

    Args:
        step: when.
        gain: bits per byte won on the domain; NaN where none of it is held out.
        forgetting: bits per byte lost on the worst general hold-out.
        worst: the name of that hold-out.
    """

    step: int
    gain: float
    forgetting: float
    worst: str = "the general hold-out"


@dataclass(frozen=True, slots=True)
class Terms:
    """What the guard goes by.

    Args:
        on_forgetting: what the user wants.
        budget: bits per byte that the worst general hold-out may lose.
        warmup_steps: of the schedule.
        total_steps: of the run.
        first_step: where the run begins: 0, or the step that a branch left its trunk at.
    """

    on_forgetting: Literal["warn", "stop", "rollback"]
    budget: float
    warmup_steps: int
    total_steps: int
    first_step: int = 0

    @property
    def dip_ends(self) -> float:
        """The first step whose evaluation counts."""
        return max(self.warmup_steps, DIP_SHARE * self.total_steps)


@dataclass(frozen=True, slots=True)
class Warn:
    """Say so, once for each time that the budget is passed."""

    evidence: tuple[Scored, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """End in good order."""

    evidence: tuple[Scored, ...]


@dataclass(frozen=True, slots=True)
class Rollback:
    """Go on from the checkpoint of `to_step` with a lower rate and more replay."""

    evidence: tuple[Scored, ...]
    to_step: int


Verdict = Warn | Stop | Rollback


def decide(
    history: Sequence[Scored], terms: Terms, *, rolled_back_to: Sequence[int], kept: Collection[int]
) -> Verdict | None:
    """What follows on the last evaluation of `history`, or nothing.

    Args:
        history: the evaluations of the run's line so far.
        terms: what to go by.
        rolled_back_to: where the guard went back to before, oldest first; what was measured by then counts no more.
        kept: steps whose checkpoint is there.
    """
    after = rolled_back_to[-1] if rolled_back_to else -1
    counted = [one for one in sorted(history, key=lambda one: one.step) if one.step > after]
    counted = [one for one in counted if one.step >= terms.dip_ends]
    in_a_row = 0
    for one in reversed(counted):
        if not one.forgetting > terms.budget + ROUNDING_BPB:
            break
        in_a_row += 1
    if in_a_row < PATIENCE:
        return None
    evidence = tuple(counted[-PATIENCE:])
    if terms.on_forgetting == "rollback" and len(rolled_back_to) < MAX_ROLLBACKS:
        return Rollback(evidence, _best([one for one in history if one.step in kept], terms))
    if terms.on_forgetting == "stop" and evidence[-1].step < terms.total_steps:
        return Stop(evidence)
    return Warn(evidence) if in_a_row == PATIENCE else None


def _best(there: Sequence[Scored], terms: Terms) -> int:
    """The checkpoint that selection would choose: the most gain within the budget, else the least forgetting; else the base.

    Where the gain is not known, the last one within the budget.
    """
    gaining = [CheckpointFacts(one.step, one.gain, one.forgetting) for one in there if one.gain > LEAST_GAIN_BPB]
    if ranked := best_first(gaining, terms.budget):
        return ranked[0]
    unknown = [one for one in there if one.gain != one.gain and one.forgetting == one.forgetting]
    if within := [one.step for one in unknown if one.forgetting <= terms.budget + ROUNDING_BPB]:
        return max(within)
    least = min(unknown, key=lambda one: (one.forgetting, one.step), default=None)
    return terms.first_step if least is None else least.step


# ------------------------------------------------------------------------------------------------------- what it changes


def guarded(recipe: Recipe, rolled_back_to: Sequence[int]) -> Recipe:
    """The recipe after these rollbacks: each halves the rate and doubles the replay, of which half of the tokens is the most."""
    factor = RATE_FACTOR ** len(rolled_back_to)
    shares = [recipe.replay_share, *(replay_share(recipe, number + 1) for number in range(len(rolled_back_to)))]
    if not rolled_back_to:
        return recipe
    rate = recipe.peak_rate * factor
    why = (
        f"after {len(rolled_back_to)} rollback{'s' if len(rolled_back_to) > 1 else ''} by the guard against forgetting"
    )
    return recipe.model_copy(
        update={
            "peak_rate": rate,
            "replay_share": shares[-1],
            "epochs": _epochs(recipe, rolled_back_to, shares),
            "decisions": (
                *recipe.decisions,
                Decision(field="learning_rate", value=f"{rate:g}", reason=f"{factor:g} of the planned one {why}"),
                Decision(field="replay_share", value=f"{shares[-1]:.0%}", reason=f"{shares[0]:.0%} was planned; {why}"),
            ),
        }
    )


def replay_share(recipe: Recipe, rollbacks: int) -> float:
    """The planned share, doubled so many times; never more than half, unless more was planned. No replay stays none."""
    planned = recipe.replay_share
    return max(planned, min(MAX_REPLAY_SHARE, planned * REPLAY_FACTOR**rollbacks))


def replay_tokens(recipe: Recipe, rolled_back_to: Sequence[int]) -> float:
    """Tokens of replay that the whole run is trained on, those before the rollbacks included."""
    shares = [replay_share(recipe, number) for number in range(len(rolled_back_to) + 1)]
    return recipe.step_tokens * sum(
        share * steps for share, steps in zip(shares, _segments(recipe, rolled_back_to), strict=True)
    )


def _segments(recipe: Recipe, rolled_back_to: Sequence[int]) -> list[int]:
    """How many steps of the run's line are made before the first rollback, between it and the second, and so on."""
    ends = [min(rolled_back_to[number:]) for number in range(len(rolled_back_to))] + [recipe.total_steps]
    return [end - begin for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def _epochs(recipe: Recipe, rolled_back_to: Sequence[int], shares: Sequence[float]) -> float:
    corpus_steps = sum(
        (1 - share) * steps for share, steps in zip(shares, _segments(recipe, rolled_back_to), strict=True)
    )
    return recipe.epochs * corpus_steps / ((1 - recipe.replay_share) * recipe.total_steps)


# ---------------------------------------------------------------------------------------------------------- what it says


def why(evidence: Sequence[Scored], budget: float) -> str:
    """What was measured, as a clause: `novels is 0.075 and 0.083 bits per byte worse than the base at steps 120 and 140, ...`."""
    names = list(dict.fromkeys(one.worst for one in evidence))
    numbers = [f"{one.forgetting:.3f}" for one in evidence]
    steps = " and ".join(str(one.step) for one in evidence)
    if len(names) == 1:
        amounts = " and ".join(dict.fromkeys(numbers))
        what = f"{names[0]} is {amounts} bits per byte worse than the base at steps {steps}"
    else:
        each = [f"{one.worst} {number} at step {one.step}" for one, number in zip(evidence, numbers, strict=True)]
        what = f"the worst general texts are {' and '.join(each)}, in bits per byte worse than the base"
    return f"{what}, beyond the budget of {budget:g}"


def terms_after(recipe: Recipe) -> str:
    """With what training goes on: `rate 0.00049 and 50% replay`."""
    replay = f"{recipe.replay_share:.0%} replay" if recipe.replay_share > 0 else "no replay"
    return f"rate {recipe.peak_rate:.3g} and {replay}"
