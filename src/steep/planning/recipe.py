"""One dial, the rest derived: from the job spec and measured facts to every number that training needs, each with its reason."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from steep.planning.budget import AS_THE_TRUNK, other_steps, plan_length
from steep.planning.decisions import Decision, note
from steep.planning.facts import Facts
from steep.planning.intervals import checkpoints, evaluations
from steep.planning.memory import MemoryPlan, plan_memory
from steep.planning.presets import preset_for
from steep.planning.rate import FIRST_BETA, peak_rate, second_beta
from steep.spec.errors import InvalidInput, InvalidSpec
from steep.spec.job import JobSpec, Lora
from steep.spec.units import format_bytes, format_tokens

__all__ = ["Decision", "Recipe", "derive"]

MAX_DEFAULT_SEQUENCE_TOKENS = 4096
WARMUP_SHARE, MIN_WARMUP_STEPS = 0.01, 10
COMPILED_FLOPS = 1e17  # five minutes of a large GPU: compiling takes ten seconds and then saves a fifth of the time


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
    replay_distill: float = Field(
        0.0, ge=0, le=1, description="Share of the base's expectation in the target at replay."
    )
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
    length = plan_length(spec, facts, sequence_tokens=sequence_tokens, replay_share=replay_share, log=log)
    total_steps = length.total_steps
    step_tokens = length.sequences_per_step * sequence_tokens
    total_tokens = total_steps * step_tokens
    epochs = total_tokens * (1 - replay_share) / facts.train_tokens
    spent = f"{total_steps} steps x {step_tokens} tokens, replay included"
    note(log, "total_tokens", format_tokens(total_tokens), spent)
    note(log, "epochs", f"{epochs:.2f}", f"of the corpus's {format_tokens(facts.train_tokens)} tokens")
    rate = _peak_rate(spec, facts, total_tokens, log)
    warmup_steps, decay_steps = _phases(spec, facts, total_steps, log)
    average_steps = math.ceil((spec.training.average or 0.0) * total_steps)
    if average_steps:
        note(log, "average_steps", str(average_steps), "training.average of the steps, the last ones")
    betas = _betas(spec, facts, step_tokens, total_steps, log)
    distill, memory = _distill_in_memory(
        spec, facts, replay_share, sequence_tokens, length.sequences_per_step, average_steps > 0, log
    )
    checkpoint_steps, checkpoint_seconds = checkpoints(spec, facts, total_steps, step_tokens, replay_share, log)
    evaluate_steps, evaluate_seconds = evaluations(spec, facts, step_tokens, replay_share, log)
    training = spec.training
    return Recipe(
        sequence_tokens=sequence_tokens,
        sequences_per_step=length.sequences_per_step,
        microbatch_sequences=memory.microbatch_sequences,
        total_steps=total_steps,
        schedule=training.schedule,
        peak_rate=rate,
        final_rate=training.final_rate,
        warmup_steps=warmup_steps,
        decay_steps=decay_steps,
        replay_share=replay_share,
        replay_distill=distill,
        weight_decay=training.weight_decay,
        betas=betas,
        clip_norm=training.clip_norm,
        average_steps=average_steps,
        lora=training.method.lora,
        precision=training.precision,
        compile=_compile(spec, facts, total_tokens, log),
        activation_checkpointing=memory.activation_checkpointing,
        checkpoint_every_steps=checkpoint_steps,
        checkpoint_every_seconds=checkpoint_seconds,
        evaluate_every_steps=evaluate_steps,
        evaluate_every_seconds=evaluate_seconds,
        time_budget_seconds=length.time_budget_seconds,
        pace_is_measured=length.time_budget_seconds is None or facts.tokens_per_second is not None,
        total_tokens=total_tokens,
        epochs=epochs,
        decisions=tuple(log),
    )


def _compile(spec: JobSpec, facts: Facts, total_tokens: int, log: list[Decision]) -> bool:
    """Whether to compile the transformer blocks: on a GPU it saves a fifth of the time, and costs some seconds once."""
    given = _chosen(spec.training.compile)
    if given is not None:
        value, reason = given, "as given"
    elif facts.device != "cuda":
        value, reason = False, "only on a GPU is it quicker by more than it costs"
    else:
        value = 6.0 * facts.parameters * total_tokens >= COMPILED_FLOPS
        reason = "the run is long enough to earn it back" if value else "the run is too short to earn it back"
    note(log, "compile", "on" if value else "off", reason)
    return value


def _chosen(value: bool | str) -> bool | None:
    return value if isinstance(value, bool) else None


def _memory_precision(spec: JobSpec, facts: Facts) -> Literal["bf16", "fp32"]:
    """What `auto` comes to on a GPU; on a processor, which is measured later, the one that takes more for activations."""
    if spec.training.precision == "auto":
        return "bf16" if facts.device == "cuda" and facts.has_bf16 else "fp32"
    return spec.training.precision


def _distill_in_memory(
    spec: JobSpec,
    facts: Facts,
    replay_share: float,
    sequence_tokens: int,
    sequences: int,
    average: bool,
    log: list[Decision],
) -> tuple[float, MemoryPlan]:
    """How much the base teaches at replay text, and the memory plan; `auto` goes without where the base does not fit."""
    given = spec.replay.distill
    if replay_share == 0 or given == 0:
        reason = "as given" if replay_share else "there is no replay"
        note(log, "replay_distill", "0%", reason)
        return 0.0, _memory(spec, facts, sequence_tokens, sequences, average, log)
    share = 1.0 if given is None else given
    attempt: list[Decision] = []
    try:
        plan = _memory(spec, facts, sequence_tokens, sequences, average, attempt, teacher=True)
    except InvalidInput:
        if given is not None:
            raise
        note(log, "replay_distill", "0%", "the base does not fit in memory beside the model")
        return 0.0, _memory(spec, facts, sequence_tokens, sequences, average, log)
    why = "at replay text the base teaches all it expects, which holds the model closer to it than the next token alone"
    note(log, "replay_distill", f"{share:.0%}", why if given is None else "as given")
    log.extend(attempt)
    return share, plan


def _betas(spec: JobSpec, facts: Facts, step_tokens: int, total_steps: int, log: list[Decision]) -> tuple[float, float]:
    if spec.training.betas is not None:
        betas, reason = spec.training.betas, "as given"
    elif facts.trunk is not None:
        betas, reason = facts.trunk.betas, AS_THE_TRUNK
    else:
        second, reason = second_beta(step_tokens, total_steps)
        betas = (FIRST_BETA, second)
    note(log, "betas", f"{betas[0]:g}, {betas[1]:g}", reason)
    return betas


def _memory(
    spec: JobSpec,
    facts: Facts,
    sequence_tokens: int,
    sequences: int,
    average: bool,
    log: list[Decision],
    *,
    teacher: bool = False,
) -> MemoryPlan:
    checkpointing = _chosen(spec.training.activation_checkpointing)
    plan = plan_memory(
        facts,
        sequence_tokens=sequence_tokens,
        sequences_per_step=sequences,
        precision=_memory_precision(spec, facts),
        microbatch_sequences=spec.training.microbatch_sequences,
        activation_checkpointing=checkpointing,
        lora=spec.training.method.lora,
        average=average,
        teacher=teacher,
    )
    takes = f"takes about {format_bytes(plan.estimate.total)} of {format_bytes(facts.memory_bytes)} free"
    note(log, "microbatch_sequences", str(plan.microbatch_sequences), f"{takes} ({plan.estimate.describe()})")
    if checkpointing is not None:
        reason = "as given"
    else:
        reason = f"memory {'would not suffice' if plan.activation_checkpointing else 'suffices'} without it"
    note(log, "activation_checkpointing", "on" if plan.activation_checkpointing else "off", reason)
    return plan


def _sequence_tokens(spec: JobSpec, facts: Facts, log: list[Decision]) -> int:
    given, trunk = spec.training.sequence_tokens, facts.trunk
    if trunk is not None:
        value, reason = trunk.sequence_tokens, AS_THE_TRUNK
        if given not in (None, value):
            raise other_steps("training.sequence_tokens", f"{given} tokens", f"sequences of {value}")
    elif given is None:
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
    note(log, "sequence_tokens", str(value), reason)
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
    note(log, "replay_share", f"{share:.0%}", reason)
    return share


def _peak_rate(spec: JobSpec, facts: Facts, total_tokens: int, log: list[Decision]) -> float:
    if spec.training.learning_rate is not None:
        rate, reason = spec.training.learning_rate, "as given"
    elif facts.trunk is not None:
        rate, reason = facts.trunk.peak_rate, AS_THE_TRUNK
    else:
        rate, reason = peak_rate(
            facts.parameters,
            total_tokens,
            from_scratch=facts.from_scratch,
            lora=spec.training.method.lora is not None,
        )
    note(log, "learning_rate", f"{rate:g}", reason)
    return rate


def _phases(spec: JobSpec, facts: Facts, total_steps: int, log: list[Decision]) -> tuple[int, int]:
    """Warmup and decay steps; together never more than the run."""
    if spec.training.warmup is None and facts.trunk is not None:
        warmup, reason = min(facts.trunk.warmup_steps, total_steps), AS_THE_TRUNK
    elif spec.training.warmup is None:
        warmup = min(max(MIN_WARMUP_STEPS, math.ceil(WARMUP_SHARE * total_steps)), total_steps // 4)
        reason = f"{WARMUP_SHARE:.0%} of the steps, at least {MIN_WARMUP_STEPS}, at most a quarter; its length hardly matters"
    else:
        warmup, reason = math.ceil(spec.training.warmup * total_steps), "as given"
    note(log, "warmup_steps", str(warmup), reason)
    if spec.training.schedule != "wsd":
        note(log, "decay_steps", "0", f"the {spec.training.schedule} schedule has no phase of its own for it")
        return warmup, 0
    if spec.training.decay is None:
        preset = preset_for(facts.train_tokens)
        share, reason = preset.decay_share, preset.decay_reason
    else:
        share, reason = spec.training.decay, "as given"
    decay = min(math.ceil(share * total_steps), total_steps - min(warmup, total_steps))
    note(log, "decay_steps", str(decay), reason)
    return warmup, decay
