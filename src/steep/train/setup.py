"""What training is told, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.manifest import CheckpointManifest, Parent
from steep.artifacts.retention import RetentionPolicy
from steep.artifacts.tokens import TokenDataset
from steep.corpus.order import DataOrder
from steep.spec.job import Lora
from steep.train.schedule import Schedule

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Scores:
    """Hold-outs of a model in training, in bits per byte, and what they amount to beside the base.

    Args:
        domain: by hold-out.
        general: by hold-out.
        gain: bits per byte won on the domain; None when there is no base to compare with.
        forgetting: bits per byte lost on the worst general hold-out; None likewise.
    """

    domain: Mapping[str, float]
    general: Mapping[str, float]
    gain: float | None = None
    forgetting: float | None = None


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that one training run is made of.

    Args:
        load_model: gives the base with fp32 weights, on any device.
        device: where to train.
        datasets: token datasets by the names of the order's streams.
        order: which tokens each sequence holds.
        sequences_per_step: sequences of an optimizer step.
        microbatch_sequences: sequences of one forward pass.
        schedule: the rate by step, and how many steps there are.
        checkpoints: where checkpoints go, and what is resumed from.
        spec_fingerprint: of what training depends on in the spec; a checkpoint with another one is foreign.
        seed: of dropout and whatever else is random while training.
        betas, weight_decay, clip_norm: of AdamW, and the largest gradient norm that is applied as it is.
        average_steps: the mean of the weights is kept over this many last steps; 0 keeps none.
        lora: adapters instead of full training.
        replay: names of the datasets that are replay.
        distill: share of the base's own expectation in what is learned at replay text; 0 learns its next tokens alone.
        precision: of the computation; `auto` measures.
        compile: compile the transformer blocks; `auto` where it pays.
        activation_checkpointing: compute activations twice instead of keeping them.
        checkpoint_every_steps, checkpoint_every_seconds: one of them, or neither: only at the end.
        evaluate_every_steps, evaluate_every_seconds: one of them, or neither: at each checkpoint.
        retention: which checkpoints are kept.
        measure: scores the hold-outs of a plain fp32 model; None scores nothing.
        adopts: whether a checkpoint is this run's own though its fingerprints differ, as that of a branch's trunk does.
        cursor_after: global index of the next sequence after a checkpoint, which another order counts in another way.
        halts: asked after each evaluation, once observers know of it: whether training ends there, with a checkpoint.
        parent: the checkpoint of another run that this one was branched from.
    """

    load_model: Callable[[], PreTrainedModel]
    device: torch.device
    datasets: Mapping[str, TokenDataset]
    order: DataOrder
    sequences_per_step: int
    microbatch_sequences: int
    schedule: Schedule
    checkpoints: CheckpointCatalog
    spec_fingerprint: str
    seed: int = 17
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    average_steps: int = 0
    lora: Lora | None = None
    replay: frozenset[str] = frozenset()
    distill: float = 0.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: Literal["auto"] | bool = "auto"
    activation_checkpointing: bool = False
    checkpoint_every_steps: int | None = None
    checkpoint_every_seconds: float | None = None
    evaluate_every_steps: int | None = None
    evaluate_every_seconds: float | None = None
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    measure: Callable[[PreTrainedModel], Scores] | None = None
    adopts: Callable[[CheckpointManifest], bool] = lambda manifest: False
    cursor_after: Callable[[CheckpointManifest], int] = lambda manifest: manifest.cursor
    halts: Callable[[int], bool] = lambda step: False
    parent: Parent | None = None

    @property
    def step_tokens(self) -> int:
        """Input tokens of an optimizer step."""
        return self.sequences_per_step * self.order.sequence_tokens

    @property
    def taught(self) -> frozenset[str]:
        """Streams of the order at which the base teaches."""
        return self.replay.intersection(stream.name for stream in self.order.streams) if self.distill else frozenset()

    @property
    def average_begins(self) -> int:
        """The number of steps after which the weights are averaged, where `average_steps` says so."""
        return self.schedule.total_steps - self.average_steps

    @property
    def decay_begins(self) -> int | None:
        """The last step of a WSD trunk, from which branches decay; None when the rate never falls or always does."""
        schedule = self.schedule
        begins = schedule.total_steps - schedule.decay_steps
        return begins if schedule.kind == "wsd" and 0 < begins < schedule.total_steps else None


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """How training ended; it ends in no other way without an error.

    Args:
        step: the last step; its checkpoint is committed.
        halted: it ended there because `halts` said so.
        tokens_seen: tokens of all steps.
        skipped_steps: steps whose update was not applied.
        rollbacks: times that training went back to a checkpoint.
        seconds: time in this process.
        stall_seconds: of it, waiting for checkpoints.
    """

    step: int
    tokens_seen: int
    skipped_steps: int
    rollbacks: int
    seconds: float
    stall_seconds: float
    halted: bool = False
