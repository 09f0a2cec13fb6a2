"""How much memory training takes, part by part, and the largest microbatch that fits.

The activation counts are those of a transformer block with a gated MLP and an attention kernel that keeps no score matrix;
the loss never holds more than one chunk of logits, and the gradient of the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from steep.planning.facts import Facts
from steep.spec.errors import InvalidInput
from steep.spec.job import Lora
from steep.spec.losschunks import chunk_tokens
from steep.spec.units import format_bytes

# of the memory that is free: allocators fragment, and libraries keep workspaces; a C library's heap that keeps what is freed
# grew to 1.25 of what was planned for a model of 57M parameters in bf16, and to no more in 20 steps
HEADROOM = {"cpu": 0.75, "cuda": 0.9, "mps": 0.9}
# bytes that a block keeps for the backward pass, a token, per unit of hidden size and of MLP width: counted on the tensors that
# autograd saves of Llama blocks of three shapes, rounded up (the bf16 copies of the weights are counted as weights)
BLOCK_BYTES = {"bf16": (34, 9), "fp32": (42, 17)}
EFFICIENT_TOKENS = {"cpu": 8192, "cuda": 32768, "mps": 8192}  # a larger microbatch is not faster


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of each part while training."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    loss: int

    @property
    def total(self) -> int:
        """Bytes of all parts together."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.loss

    def describe(self) -> str:
        """The parts in words, for errors and explanations."""
        parts = {name: getattr(self, name) for name in ("weights", "gradients", "optimizer", "activations", "loss")}
        return ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The microbatch that fits, and what it takes."""

    microbatch_sequences: int
    activation_checkpointing: bool
    estimate: MemoryEstimate


def lora_parameters(facts: Facts, lora: Lora) -> int:
    """Parameters of rank-r adapters on all linear layers of every block: r x (inputs + outputs) each."""
    attention = 4 * 2 * facts.hidden_size
    mlp = 3 * (facts.hidden_size + facts.mlp_width)
    return lora.rank * facts.num_layers * (attention + mlp)


def estimate(
    facts: Facts,
    *,
    microbatch_tokens: int,
    precision: Literal["bf16", "fp32"],
    activation_checkpointing: bool,
    lora: Lora | None = None,
    average: bool = False,
    teacher: bool = False,
) -> MemoryEstimate:
    """Bytes that training takes with `microbatch_tokens` tokens in one forward pass.

    Args:
        facts: size and shape of the model.
        microbatch_tokens: tokens in one forward and backward pass.
        precision: of the computation; master weights, gradients and optimizer state are fp32 in both.
        activation_checkpointing: keep one tensor a block and compute the rest again in the backward pass.
        lora: adapters instead of full training.
        average: keep a running average of the weights as well.
        teacher: keep the base beside the model, in the precision of the computation.
    """
    trained = facts.parameters if lora is None else lora_parameters(facts, lora)
    held = facts.parameters + (0 if lora is None else trained)
    width = 2 if precision == "bf16" else 4
    weights = 4 * held + (2 * held if precision == "bf16" else 0) + (4 * trained if average else 0)
    weights += width * facts.parameters if teacher else 0
    per_hidden, per_mlp = BLOCK_BYTES[precision]
    block = microbatch_tokens * (per_hidden * facts.hidden_size + per_mlp * facts.mlp_width)
    residual = microbatch_tokens * facts.hidden_size * width
    activations = facts.num_layers * residual + block if activation_checkpointing else facts.num_layers * block
    # a chunk's logits and their probabilities in fp32; with a teacher its logits, what it expects, and their product
    chunk = min(chunk_tokens(facts.device, facts.vocab_size), microbatch_tokens) * facts.vocab_size
    loss = (width + 4) * chunk + ((width + 8) * chunk if teacher else 0)
    # the head's gradient, in fp32, with a chunk's share of it; and that of the hidden states
    head = 0 if lora is not None else (4 + width) * facts.vocab_size * facts.hidden_size
    loss += head + width * microbatch_tokens * facts.hidden_size
    gradients = (4 if precision == "fp32" else 6) * trained  # in bf16 they come in bf16, and are kept in fp32
    return MemoryEstimate(weights, gradients, optimizer=8 * trained, activations=activations, loss=loss)


def plan_memory(
    facts: Facts,
    *,
    sequence_tokens: int,
    sequences_per_step: int,
    precision: Literal["bf16", "fp32"],
    microbatch_sequences: int | None = None,
    activation_checkpointing: bool | None = None,
    lora: Lora | None = None,
    average: bool = False,
    teacher: bool = False,
) -> MemoryPlan:
    """The largest microbatch that fits in memory, without activation checkpointing where that is possible.

    Args:
        facts: model and machine.
        sequence_tokens: tokens of a sequence.
        sequences_per_step: sequences of an optimizer step; the microbatch divides it.
        precision: of the computation.
        microbatch_sequences: the user's choice, which is kept whether the estimate fits or not when checkpointing
            cannot help; None derives it.
        activation_checkpointing: the user's choice; None derives it.
        lora: adapters instead of full training.
        average: a running average of the weights is kept.
        teacher: the base is kept beside the model.

    Raises:
        InvalidInput: not even one sequence with activation checkpointing fits.
    """
    available = int(facts.memory_bytes * HEADROOM[facts.device])

    def measure(sequences: int, checkpointing: bool) -> MemoryEstimate:
        return estimate(
            facts,
            microbatch_tokens=sequences * sequence_tokens,
            precision=precision,
            activation_checkpointing=checkpointing,
            lora=lora,
            average=average,
            teacher=teacher,
        )

    if microbatch_sequences is not None:
        sizes = [min(microbatch_sequences, sequences_per_step)]
    else:
        most = max(1, EFFICIENT_TOKENS[facts.device] // sequence_tokens)
        divisors = [size for size in range(1, sequences_per_step + 1) if sequences_per_step % size == 0]
        sizes = sorted((size for size in divisors if size <= most), reverse=True)
    choices = (False, True) if activation_checkpointing is None else (activation_checkpointing,)
    for checkpointing in choices:
        for size in sizes:
            needed = measure(size, checkpointing)
            if needed.total <= available:
                return MemoryPlan(size, checkpointing, needed)
    least = measure(sizes[-1], choices[-1])
    raise InvalidInput(
        f"training needs about {format_bytes(least.total)} ({least.describe()}) with {sizes[-1]} x {sequence_tokens} tokens "
        f"in a pass, and {format_bytes(facts.memory_bytes)} are free",
        where="training",
        cure="Set training.method: lora, a shorter training.sequence_tokens or a smaller base, or use a machine with more memory.",
    )
