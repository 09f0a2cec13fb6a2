"""One dial, the rest derived: from the job spec and measured facts to every number that training needs, each with its reason."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from steep.planning.facts import Facts
from steep.planning.memory import plan_memory
from steep.planning.presets import preset_for
from steep.planning.rate import batch_tokens, peak_rate
from steep.spec.errors import InvalidSpec
from steep.spec.job import JobSpec, Lora
from steep.spec.units import BudgetUnit, format_bytes, format_seconds, format_tokens

MAX_DEFAULT_SEQUENCE_TOKENS = 4096
WARMUP_SHARE, MIN_WARMUP_STEPS = 0.01, 10
DECAY_SHARE = 0.2
TRAINING_SHARE_OF_TIME = 0.95  # of a budget in time; the rest is for checkpoints and hold-outs
CHECKPOINTS_PER_RUN = 10


class Decision(BaseModel):
    """A value and why it is what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    value: str
    reason: str


class Recipe(BaseModel):
    """All numbers of a training run. A token budget counts replay; an epoch counts the corpus alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence_tokens: int = Field(gt=0)
    sequences_per_step: int = Field(gt=0)
    microbatch_sequences: int = Field(gt=0, description="Sequences in one forward pass.")
    total_steps: int = Field(gt=0)
    schedule: Literal["wsd", "cosine", "linear", "constant"]
    peak_rate: float = Field(gt=0)
    final_rate: float = Field(description="Rate at the end as a share of the peak.")
    warmup_steps: int = Field(ge=0)
    decay_steps: int = Field(ge=0, description="Last steps, in which WSD lowers the rate; 0 in other schedules.")
    replay_share: float = Field(ge=0, le=1)
    weight_decay: float
    betas: tuple[float, float]
    clip_norm: float
    average_steps: int = Field(ge=0, description="Last steps whose weights are averaged; 0: none.")
    lora: Lora | None
    precision: Literal["auto", "bf16", "fp32"]
    compile: Literal["auto"] | bool
    activation_checkpointing: bool
    checkpoint_every_steps: int | None = Field(description="Either this or the seconds are set.")
    checkpoint_every_seconds: float | None
    evaluate_every_steps: int | None = Field(description="None, and no seconds: at each checkpoint.")
    evaluate_every_seconds: float | None
    time_budget_seconds: float | None = Field(None, description="The user's budget, when it was given in time.")
    pace_is_measured: bool = Field(True, description="False: steps of a budget in time rest on no measured speed.")
    total_tokens: int = Field(description="Tokens of all steps, replay included.")
    epochs: float = Field(description="Times that the corpus is seen.")
    decisions: tuple[Decision, ...] = ()

    @property
    def step_tokens(self) -> int:
        """Tokens of an optimizer step."""
        return self.sequence_tokens * self.sequences_per_step

    @property
    def accumulation(self) -> int:
        """Microbatches in a step; the last one may be smaller."""
        return math.ceil(self.sequences_per_step / self.microbatch_sequences)

    def explain(self) -> list[Decision]:
        """Every number with its reason, in the order in which they were decided."""
        return list(self.decisions)


def derive(spec: JobSpec, facts: Facts) -> Recipe:
    """All numbers of the training run that `spec` asks for, given what was measured. Pure.

    Raises:
        InvalidSpec: the spec asks for what the base or the corpus cannot give.
        InvalidInput: not even one sequence fits in memory.
    """
    log: list[Decision] = []
    sequence_tokens = _sequence_tokens(spec, facts, log)
    replay_share = _replay_share(spec, facts, log)
    amount, unit = _budget(spec, facts, log)
    wanted_tokens = _wanted_tokens(spec, facts, amount, unit, replay_share)
    sequences = _sequences_per_step(spec, sequence_tokens, wanted_tokens, log)
    step_tokens = sequences * sequence_tokens
    total_steps = _total_steps(amount, unit, wanted_tokens, step_tokens, facts, log)
    total_tokens = total_steps * step_tokens
    epochs = total_tokens * (1 - replay_share) / facts.train_tokens
    _note(
        log, "total_tokens", format_tokens(total_tokens), f"{total_steps} steps x {step_tokens} tokens, replay included"
    )
    _note(log, "epochs", f"{epochs:.2f}", f"of the corpus's {format_tokens(facts.train_tokens)} tokens")
    rate = _peak_rate(spec, facts, total_tokens, log)
    warmup_steps, decay_steps = _phases(spec, total_steps, log)
    average_steps = math.ceil((spec.training.average or 0.0) * total_steps)
    if average_steps:
        _note(log, "average_steps", str(average_steps), "training.average of the steps, the last ones")
    memory = plan_memory(
        facts,
        sequence_tokens=sequence_tokens,
        sequences_per_step=sequences,
        precision=_memory_precision(spec, facts),
        microbatch_sequences=spec.training.microbatch_sequences,
        activation_checkpointing=_chosen(spec.training.activation_checkpointing),
        lora=spec.training.method.lora,
        average=average_steps > 0,
    )
    estimate = f"about {format_bytes(memory.estimate.total)} of {format_bytes(facts.memory_bytes)} free"
    _note(
        log,
        "microbatch_sequences",
        str(memory.microbatch_sequences),
        f"takes {estimate} ({memory.estimate.describe()})",
    )
    _note(
        log,
        "activation_checkpointing",
        "on" if memory.activation_checkpointing else "off",
        "as given" if _chosen(spec.training.activation_checkpointing) is not None
        else "memory would not suffice without it" if memory.activation_checkpointing else "memory suffices without it",
    )  # fmt: skip
    checkpoint_steps, checkpoint_seconds = _checkpoints(spec, facts, total_steps, step_tokens, replay_share, log)
    evaluate_steps, evaluate_seconds = _evaluations(spec, facts, step_tokens, replay_share, log)
    training = spec.training
    return Recipe(
        sequence_tokens=sequence_tokens,
        sequences_per_step=sequences,
        microbatch_sequences=memory.microbatch_sequences,
        total_steps=total_steps,
        schedule=training.schedule,
        peak_rate=rate,
        final_rate=training.final_rate,
        warmup_steps=warmup_steps,
        decay_steps=decay_steps,
        replay_share=replay_share,
        weight_decay=training.weight_decay,
        betas=training.betas,
        clip_norm=training.clip_norm,
        average_steps=average_steps,
        lora=training.method.lora,
        precision=training.precision,
        compile=training.compile,
        activation_checkpointing=memory.activation_checkpointing,
        checkpoint_every_steps=checkpoint_steps,
        checkpoint_every_seconds=checkpoint_seconds,
        evaluate_every_steps=evaluate_steps,
        evaluate_every_seconds=evaluate_seconds,
        time_budget_seconds=amount if unit == "seconds" else None,
        pace_is_measured=unit != "seconds" or facts.tokens_per_second is not None,
        total_tokens=total_tokens,
        epochs=epochs,
        decisions=tuple(log),
    )


def _note(log: list[Decision], field: str, value: str, reason: str) -> None:
    log.append(Decision(field=field, value=value, reason=reason))


def _chosen(value: bool | str) -> bool | None:
    return value if isinstance(value, bool) else None


def _memory_precision(spec: JobSpec, facts: Facts) -> Literal["bf16", "fp32"]:
    """The wider of the precisions that `auto` may come to, so that the estimate holds for both."""
    if spec.training.precision == "auto":
        return "bf16" if facts.device == "cuda" else "fp32"
    return spec.training.precision


def _sequence_tokens(spec: JobSpec, facts: Facts, log: list[Decision]) -> int:
    given = spec.training.sequence_tokens
    if given is None:
        value = min(facts.context_tokens, MAX_DEFAULT_SEQUENCE_TOKENS)
        reason = f"the base's context of {facts.context_tokens}, at most {MAX_DEFAULT_SEQUENCE_TOKENS}"
    elif given > facts.context_tokens:
        raise InvalidSpec(
            f"{given} tokens are longer than the base's context of {facts.context_tokens}",
            where="training.sequence_tokens",
            cure=f"Give at most {facts.context_tokens}, or leave it out.",
        )
    else:
        value, reason = given, "as given"
    _note(log, "sequence_tokens", str(value), reason)
    return value


def _replay_share(spec: JobSpec, facts: Facts, log: list[Decision]) -> float:
    preset = preset_for(facts.train_tokens)
    if facts.from_scratch:
        share, reason = 0.0, "a new model has nothing to forget"
    elif spec.replay.share is not None:
        share, reason = spec.replay.share, "as given"
    elif not facts.replay_available:
        share, reason = 0.0, "there is no replay text"
    else:
        share, reason = preset.replay_share, f"preset of a {preset.name} corpus: {preset.replay_reason}"
    if share >= 1:
        raise InvalidSpec("leaves nothing of the corpus to train on", where="replay.share", cure="Give less than 100%.")
    _note(log, "replay_share", f"{share:.0%}", reason)
    return share


def _budget(spec: JobSpec, facts: Facts, log: list[Decision]) -> tuple[float, BudgetUnit]:
    if spec.training.budget is not None:
        amount, unit = spec.training.budget
        if amount <= 0:
            raise InvalidSpec(
                "is nothing at all", where="training.budget", cure="Give more than zero, such as `2 epochs`."
            )
        _note(log, "budget", format_seconds(amount) if unit == "seconds" else f"{amount:.15g} {unit}", "as given")
        return amount, unit
    preset = preset_for(facts.train_tokens)
    _note(log, "budget", f"{preset.epochs:g} epochs", f"preset of a {preset.name} corpus: {preset.epochs_reason}")
    return preset.epochs, "epochs"


def _wanted_tokens(spec: JobSpec, facts: Facts, amount: float, unit: BudgetUnit, replay_share: float) -> int | None:
    """Tokens of the whole run, replay included; None for a budget in steps, whose tokens follow from the batch."""
    if unit == "steps":
        return None
    if unit == "seconds" and facts.tokens_per_second is not None:
        return max(1, int(amount * TRAINING_SHARE_OF_TIME * facts.tokens_per_second))
    if unit == "tokens":
        return max(1, round(amount))
    epochs = amount if unit == "epochs" else preset_for(facts.train_tokens).epochs
    return max(1, math.ceil(facts.train_tokens * epochs / (1 - replay_share)))


def _sequences_per_step(spec: JobSpec, sequence_tokens: int, wanted_tokens: int | None, log: list[Decision]) -> int:
    given = spec.training.global_batch_tokens
    if given is not None:
        if given < sequence_tokens:
            raise InvalidSpec(
                f"{given} tokens are less than one sequence of {sequence_tokens}",
                where="training.global_batch_tokens",
                cure=f"Give at least {sequence_tokens}, or a shorter training.sequence_tokens.",
            )
        sequences = given // sequence_tokens
        rest = (
            "" if given % sequence_tokens == 0 else f", whole sequences only, so {sequences * sequence_tokens} tokens"
        )
        reason = f"as given{rest}"
    elif wanted_tokens is None:
        sequences, reason = (
            max(1, 2 ** round(math.log2(max(1.0, 8192 / sequence_tokens)))),
            "8192 tokens for a budget in steps",
        )
    else:
        tokens, reason = batch_tokens(wanted_tokens, sequence_tokens)
        sequences = tokens // sequence_tokens
    _note(log, "global_batch_tokens", str(sequences * sequence_tokens), reason)
    return sequences


def _total_steps(
    amount: float, unit: BudgetUnit, wanted_tokens: int | None, step_tokens: int, facts: Facts, log: list[Decision]
) -> int:
    if wanted_tokens is None:
        steps, reason = max(1, math.ceil(amount)), "as given"
    elif unit == "seconds" and facts.tokens_per_second is not None:
        steps = max(1, wanted_tokens // step_tokens)
        reason = (
            f"{TRAINING_SHARE_OF_TIME:.0%} of {format_seconds(amount)} at the measured "
            f"{facts.tokens_per_second:.0f} tokens/s; the rest is for checkpoints and hold-outs"
        )
    elif unit == "seconds":
        steps = max(1, math.ceil(wanted_tokens / step_tokens))
        reason = "the corpus's default epochs, until the training speed is measured and the time says how many"
    else:
        steps, reason = max(1, math.ceil(wanted_tokens / step_tokens)), "the budget, in whole steps"
    _note(log, "total_steps", str(steps), reason)
    return steps


def _peak_rate(spec: JobSpec, facts: Facts, total_tokens: int, log: list[Decision]) -> float:
    if spec.training.learning_rate is not None:
        rate, reason = spec.training.learning_rate, "as given"
    else:
        rate, reason = peak_rate(
            facts.parameters,
            total_tokens,
            from_scratch=facts.from_scratch,
            lora=spec.training.method.lora is not None,
        )
    _note(log, "learning_rate", f"{rate:g}", reason)
    return rate


def _phases(spec: JobSpec, total_steps: int, log: list[Decision]) -> tuple[int, int]:
    """Warmup and decay steps; together never more than the run."""
    if spec.training.warmup is None:
        warmup = min(max(MIN_WARMUP_STEPS, math.ceil(WARMUP_SHARE * total_steps)), total_steps // 4)
        reason = f"{WARMUP_SHARE:.0%} of the steps, at least {MIN_WARMUP_STEPS}, at most a quarter; its length hardly matters"
    else:
        warmup, reason = math.ceil(spec.training.warmup * total_steps), "as given"
    _note(log, "warmup_steps", str(warmup), reason)
    if spec.training.schedule != "wsd":
        _note(log, "decay_steps", "0", f"the {spec.training.schedule} schedule has no phase of its own for it")
        return warmup, 0
    if spec.training.decay is None:
        share, reason = DECAY_SHARE, "the last fifth, as 1 - sqrt; the trunk before it can be branched"
    else:
        share, reason = spec.training.decay, "as given"
    decay = min(math.ceil(share * total_steps), total_steps - min(warmup, total_steps))
    _note(log, "decay_steps", str(decay), reason)
    return warmup, decay


def _interval(
    amount: float, unit: BudgetUnit, facts: Facts, step_tokens: int, replay_share: float
) -> tuple[int | None, float | None]:
    """An interval in steps or, where it was given in time, in seconds."""
    if unit == "seconds":
        return None, amount
    if unit == "epochs":
        amount = amount * facts.train_tokens / (1 - replay_share)
    return max(1, round(amount if unit == "steps" else amount / step_tokens)), None


def _checkpoints(
    spec: JobSpec, facts: Facts, total_steps: int, step_tokens: int, replay_share: float, log: list[Decision]
) -> tuple[int | None, float | None]:
    if spec.checkpoints.every is None:
        steps = math.ceil(total_steps / CHECKPOINTS_PER_RUN)
        _note(log, "checkpoint_every", f"{steps} steps", "a tenth of the run")
        return steps, None
    interval = _interval(*spec.checkpoints.every, facts, step_tokens, replay_share)
    _note(log, "checkpoint_every", _spell(interval), "as given")
    return interval


def _evaluations(
    spec: JobSpec, facts: Facts, step_tokens: int, replay_share: float, log: list[Decision]
) -> tuple[int | None, float | None]:
    if spec.evaluation.every is None:
        _note(log, "evaluate_every", "each checkpoint", "hold-outs are scored where weights can be kept")
        return None, None
    interval = _interval(*spec.evaluation.every, facts, step_tokens, replay_share)
    _note(log, "evaluate_every", _spell(interval), "as given")
    return interval


def _spell(interval: tuple[int | None, float | None]) -> str:
    steps, seconds = interval
    return f"{steps} steps" if seconds is None else format_seconds(seconds)
