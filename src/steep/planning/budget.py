"""From a budget in epochs, tokens, steps or time to tokens a step and steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from steep.planning.decisions import Decision, note
from steep.planning.facts import Facts
from steep.planning.presets import preset_for
from steep.planning.rate import MIN_SEQUENCES, batch_tokens
from steep.spec.errors import InvalidSpec
from steep.spec.job import JobSpec
from steep.spec.units import BudgetUnit, format_seconds

TRAINING_SHARE_OF_TIME = 0.95  # of a budget in time; the rest is for checkpoints and hold-outs
FORWARD_SHARE = 1 / 3  # of the work on a token: what it costs to ask the base there, too
AS_THE_TRUNK = "as in the run that it was branched from"
TOKENS_OF_A_STEP = 8192  # where the budget is in steps, and so says nothing of tokens


@dataclass(frozen=True, slots=True)
class Length:
    """How long a run is: sequences of a step, steps, and the user's time where the budget was given in time."""

    sequences_per_step: int
    total_steps: int
    time_budget_seconds: float | None


def plan_length(
    spec: JobSpec, facts: Facts, *, sequence_tokens: int, replay_share: float, log: list[Decision]
) -> Length:
    """The batch and the number of steps that spend the budget, in whole steps.

    Raises:
        InvalidSpec: a step smaller than a sequence.
    """
    amount, unit = _budget(spec, facts, log)
    pace = _pace(spec, facts, replay_share)
    tokens = _wanted_tokens(facts, amount, unit, replay_share, pace)
    sequences = _sequences_per_step(spec, facts, sequence_tokens, tokens, log)
    steps = _total_steps(amount, unit, tokens, sequences * sequence_tokens, pace, log)
    if facts.trunk is not None and steps <= facts.trunk.step:
        raise InvalidSpec(
            f"it ends at step {steps}, and the branch begins at step {facts.trunk.step}: nothing would be trained",
            where="training.budget",
            cure=f"Give more than {facts.trunk.step * sequences * sequence_tokens} tokens, or branch from an earlier step.",
        )
    return Length(sequences, steps, amount if unit == "seconds" else None)


def _budget(spec: JobSpec, facts: Facts, log: list[Decision]) -> tuple[float, BudgetUnit]:
    if spec.training.budget is not None:
        amount, unit = spec.training.budget
        note(log, "budget", format_seconds(amount) if unit == "seconds" else f"{amount:.15g} {unit}", "as given")
        return amount, unit
    preset = preset_for(facts.train_tokens)
    note(log, "budget", f"{preset.epochs:g} epochs", f"preset of a {preset.name} corpus: {preset.epochs_reason}")
    return preset.epochs, "epochs"


def _pace(spec: JobSpec, facts: Facts, replay_share: float) -> float | None:
    """Tokens per second of the whole run: the speed was measured on the corpus alone, where the base does not teach."""
    if facts.tokens_per_second is None:
        return None
    taught_share = 0.0 if spec.replay.distill == 0 else replay_share
    return facts.tokens_per_second / (1 + taught_share * FORWARD_SHARE)


def _wanted_tokens(
    facts: Facts, amount: float, unit: BudgetUnit, replay_share: float, pace: float | None
) -> int | None:
    """Tokens of the whole run, replay included; None for a budget in steps, whose tokens follow from the batch."""
    if unit == "steps":
        return None
    if unit == "seconds" and pace is not None:
        return max(1, int(amount * TRAINING_SHARE_OF_TIME * pace))
    if unit == "tokens":
        return max(1, round(amount))
    epochs = amount if unit == "epochs" else preset_for(facts.train_tokens).epochs
    return max(1, math.ceil(facts.train_tokens * epochs / (1 - replay_share)))


def other_steps(where: str, given: str, trunk: str) -> InvalidSpec:
    """A branch counts its steps, and its place in the text, as the run did that it left."""
    return InvalidSpec(
        f"{given} are not what the branch's steps are made of: it goes on in {trunk}, as the run that it left",
        where=where,
        cure="Leave it out; or begin a new job with an export of that checkpoint as its base.",
    )


def _sequences_per_step(
    spec: JobSpec, facts: Facts, sequence_tokens: int, wanted_tokens: int | None, log: list[Decision]
) -> int:
    given, trunk = spec.training.global_batch_tokens, facts.trunk
    if trunk is not None:
        sequences, reason = trunk.sequences_per_step, AS_THE_TRUNK
        if given is not None and given // sequence_tokens != sequences:
            raise other_steps(
                "training.global_batch_tokens", f"{given} tokens", f"steps of {sequences * sequence_tokens}"
            )
    elif given is not None:
        if given < sequence_tokens:
            raise InvalidSpec(
                f"{given} tokens are less than one sequence of {sequence_tokens}",
                where="training.global_batch_tokens",
                cure=f"Give at least {sequence_tokens}, or a shorter training.sequence_tokens.",
            )
        sequences = given // sequence_tokens
        whole = given % sequence_tokens == 0
        reason = "as given" if whole else f"as given, in whole sequences of {sequence_tokens}"
    elif wanted_tokens is None:
        sequences = max(MIN_SEQUENCES, 2 ** round(math.log2(max(1.0, TOKENS_OF_A_STEP / sequence_tokens))))
        reason = f"about {TOKENS_OF_A_STEP} tokens, and at least {MIN_SEQUENCES} sequences, for a budget in steps"
    else:
        tokens, reason = batch_tokens(wanted_tokens, sequence_tokens)
        sequences = tokens // sequence_tokens
    note(log, "global_batch_tokens", str(sequences * sequence_tokens), reason)
    return sequences


def _total_steps(
    amount: float,
    unit: BudgetUnit,
    wanted_tokens: int | None,
    step_tokens: int,
    pace: float | None,
    log: list[Decision],
) -> int:
    if wanted_tokens is None:
        steps, reason = max(1, math.ceil(amount)), "as given"
    elif unit == "seconds" and pace is not None:
        steps = max(1, wanted_tokens // step_tokens)
        reason = (
            f"{TRAINING_SHARE_OF_TIME:.0%} of {format_seconds(amount)} at {pace:.0f} tokens/s, as measured, less "
            f"what the base takes to teach; the rest is for checkpoints and hold-outs"
        )
    elif unit == "seconds":
        steps = max(1, math.ceil(wanted_tokens / step_tokens))
        reason = "the corpus's default epochs, until the training speed is measured and the time says how many"
    else:
        steps, reason = max(1, math.ceil(wanted_tokens / step_tokens)), "the budget, in whole steps"
    note(log, "total_steps", str(steps), reason)
    return steps
