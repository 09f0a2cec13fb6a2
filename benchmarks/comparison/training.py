"""Sides that train: the same weights, sequences, microbatches, rates and AdamW for Steep and for its peer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from comparison import material
from comparison.material import Shape, Text
from comparison.rows import Side


@dataclass(frozen=True)
class Work:
    """What is trained, and for how long.

    Args:
        shape: of the model.
        sequence_tokens, sequences_per_step, microbatch_sequences: of a step.
        steps: after which measuring ends.
        warm_steps: first steps that the speed leaves out.
        total_steps: of the schedule; it ends after `steps`. Steep saves a first checkpoint after a hundredth of it, at
            most 10 steps, so the same number decides when both save first.
        warmup_steps, decay_steps: of the WSD schedule.
        peak_rate: of the schedule.
        save_steps: both save at each multiple.
        steps_before_save: where memory is read for the first time.
        device: where to train.
        half: weights are stored in bf16.
        text: what is trained on; see `material.tokens`.
    """

    shape: Shape
    sequence_tokens: int
    sequences_per_step: int
    microbatch_sequences: int
    steps: int
    warm_steps: int
    total_steps: int
    warmup_steps: int = 0
    decay_steps: int = 0
    peak_rate: float = 5e-4
    save_steps: int | None = None
    steps_before_save: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    half: bool = False
    text: Text = "books"

    def told(self) -> dict[str, Any]:
        """What both sides are told."""
        return {
            "model": str(material.weights(self.shape, self.sequence_tokens, half=self.half)),
            "device": self.device,
            "sequence_tokens": self.sequence_tokens,
            "sequences_per_step": self.sequences_per_step,
            "microbatch_sequences": self.microbatch_sequences,
            "steps": self.steps,
            "warm_steps": self.warm_steps,
            "steps_before_save": self.steps_before_save,
            "schedule": {
                "peak_rate": self.peak_rate,
                "total_steps": self.total_steps,
                "warmup_steps": self.warmup_steps,
                "decay_steps": self.decay_steps,
                "kind": "wsd" if self.decay_steps else "constant",
            },
        }

    def rates(self) -> list[float]:
        """The rate of each step that is made."""
        from steep.train.schedule import Schedule, rate

        schedule = Schedule(**self.told()["schedule"])
        return [rate(step, schedule) for step in range(self.steps + 1)]


def steep(work: Work, precision: Literal["auto", "bf16", "fp32"] = "auto", *, compiled: bool = False) -> Side:
    """Steep's trainer; `compiled` as it is on a GPU in runs of more than some minutes."""

    def arguments() -> dict[str, Any]:
        return {
            **work.told(),
            "tokens": str(material.tokens(work.text)),
            "precision": precision,
            "checkpoint_every_steps": work.save_steps,
            "compiled": compiled,
        }

    label = "Steep" if precision == "auto" else f"Steep, {precision}"
    return Side(f"steep-{precision}", label, "steep_train", arguments)


def trainer(
    work: Work,
    precision: Literal["bf16", "fp32"],
    attention: Literal["eager", "sdpa", "flash_attention_2"],
    *,
    within_documents: bool = False,
    liger: bool = False,
) -> Side:
    """Hugging Face's Trainer, with bf16 autocast over fp32 weights or without it."""

    def arguments() -> dict[str, Any]:
        num_rows = (work.steps + 1) * work.sequences_per_step
        return {
            **work.told(),
            "rows": str(material.sequences(work.text, work.sequence_tokens, num_rows)),
            "rates": work.rates(),
            "precision": precision,
            "attention": attention,
            "within_documents": within_documents,
            "eos_id": 0,
            "liger": liger,
            "save_steps": work.save_steps,
        }

    label = f"Trainer, {precision} {attention}" + (" with Liger" if liger else "")
    name = f"trainer-{precision}-{attention}" + ("-liger" if liger else "")
    return Side(name, label, "hf_trainer", arguments, peer=True)
