"""The loss of a language model, without ever holding the logits of all tokens.

The last linear layer and the cross entropy are one function, worked off in chunks of tokens. Since the loss is the root of
the backward pass, its gradients are known as soon as a chunk's logits are, so both passes are one and nothing is computed twice.

Replay text can teach more than its next tokens: all that the base expected there. What it would say (a `Lesson`) is then part of
the target (distillation, Hinton et al. 2015; against forgetting, Li and Hoiem 2016, "Learning without Forgetting").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from steep.model.batch import IGNORED, Batch
from steep.spec import losschunks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Head:
    """How a family makes logits of its last hidden states.

    Args:
        weight: `[vocab, hidden]`.
        bias: `[vocab]`, where there is one.
        scale: logits are multiplied by it.
        softcap: logits are bent to stay within plus and minus this.
    """

    weight: Tensor
    bias: Tensor | None
    scale: float
    softcap: float | None

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits `[..., vocab]` of hidden states `[..., hidden]`, in their dtype."""
        return _bend(linear(hidden, self.weight, self.bias), self)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the base says at some tokens of a batch.

    Args:
        rows: int64 `[M]`; which tokens.
        hidden: `[M, hidden]`; the base's last hidden states there.
        head: of the base.
        share: of the base's expectation in the target; the label has the rest.
    """

    rows: Tensor
    hidden: Tensor
    head: Head
    share: float

    def expected(self, start: int, stop: int) -> Tensor:
        """Probabilities `[stop - start, vocab]` of what follows the tokens from `start` to `stop` of the lesson."""
        logits = self.head.logits(self.hidden[start:stop])
        return torch.softmax(logits, dim=-1, dtype=_exact(logits))


def head_of(model: PreTrainedModel) -> Head:
    """The head of a causal language model; its weights may change afterwards."""
    layer = model.get_output_embeddings()
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    return Head(layer.weight, getattr(layer, "bias", None), scale, getattr(config, "final_logit_softcapping", None))


def hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """What the head sees: `[N, hidden]`."""
    return model.base_model(**batch.model_arguments()).last_hidden_state[0]


class LanguageModelLoss(nn.Module):
    """A causal language model together with its loss; the module that training calls, shards and differentiates.

    Args:
        model: any causal language model with our attention.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, lesson: Lesson | None = None) -> tuple[Tensor, int]:
        """Sum of nats over the batch's labels (a scalar, fp32), and how many labels there are."""
        hidden, head = hidden_states(self.model, batch), head_of(self.model)
        if lesson is None:
            return linear_cross_entropy(hidden, head, batch.labels), batch.num_labels
        untaught = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
        untaught[lesson.rows] = False
        nats = linear_cross_entropy(hidden[lesson.rows], head, batch.labels[lesson.rows], lesson=lesson)
        if lesson.rows.numel() < len(hidden):
            nats = nats + linear_cross_entropy(hidden[untaught], head, batch.labels[untaught])
        return nats, batch.num_labels


def linear_cross_entropy(
    hidden: Tensor, head: Head, labels: Tensor, *, lesson: Lesson | None = None, chunk_tokens: int | None = None
) -> Tensor:
    """Sum over tokens of the nats that the target costs: the label, or a mixture of it and what a lesson expects.

    Args:
        hidden: `[N, hidden]`.
        head: makes logits of them.
        labels: int64 `[N]`, or `IGNORED`, which costs nothing.
        lesson: of these N tokens.
        chunk_tokens: tokens worked off at a time; by default what suits the device.

    Returns:
        A scalar: fp32, or fp64 where the inputs are.
    """
    if chunk_tokens is None:
        chunk_tokens = losschunks.chunk_tokens(hidden.device.type, len(head.weight))
    return _LinearCrossEntropy.apply(hidden, head.weight, head.bias, labels, head, lesson, chunk_tokens)


def _bend(logits: Tensor, head: Head) -> Tensor:
    """Scale and softcap, in place."""
    if head.scale != 1.0:
        logits = logits.mul_(head.scale)
    if head.softcap is not None:
        logits = logits.div_(head.softcap).tanh_().mul_(head.softcap)
    return logits


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        head: Head,
        lesson: Lesson | None,
        chunk_tokens: int,
    ) -> Tensor:
        exact = _exact(hidden)
        wants = [bool(need) for need in ctx.needs_input_grad[:3]]
        grad_hidden = torch.empty_like(hidden) if wants[0] else None
        grad_weight = torch.zeros_like(weight, dtype=exact) if wants[1] else None
        grad_bias = torch.zeros_like(bias, dtype=exact) if wants[2] and bias is not None else None
        nats = torch.zeros((), dtype=exact, device=hidden.device)
        for start in range(0, len(hidden), chunk_tokens):
            rows, goals = hidden[start : start + chunk_tokens], labels[start : start + chunk_tokens]
            logits = _bend(linear(rows, weight, bias), head)
            some, gradient = _cost(logits, goals, head, _target(lesson, goals, start))
            nats += some
            if grad_hidden is not None:
                torch.mm(gradient, weight, out=grad_hidden[start : start + len(rows)])
            if grad_weight is not None:
                grad_weight += gradient.t() @ rows
            if grad_bias is not None:
                grad_bias += gradient.sum(0, dtype=exact)
        ctx.gradients = grad_hidden, grad_weight, grad_bias
        ctx.dtype = weight.dtype
        return nats

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        outer = gradients[0]
        scaled = [None if grad is None else grad.mul_(outer.to(grad.dtype)).to(ctx.dtype) for grad in ctx.gradients]
        ctx.gradients = None, None, None
        return *scaled, None, None, None, None


def _target(lesson: Lesson | None, labels: Tensor, start: int) -> Tensor | None:
    """The distribution `[n, vocab]` to learn at a chunk's tokens, where it is not the label alone."""
    if lesson is None:
        return None
    goals = labels.clamp(min=0)[:, None]
    target = lesson.expected(start, start + len(labels)).mul_(lesson.share)
    return target.scatter_add_(1, goals, target.new_full((1, 1), 1 - lesson.share).expand_as(goals))


def _cost(logits: Tensor, labels: Tensor, head: Head, target: Tensor | None) -> tuple[Tensor, Tensor]:
    """Nats of a chunk, and their gradient for its logits before scale and softcap. The logits may be overwritten.

    Probabilities are fp32 whatever the logits are: where the model already says nearly what it should, the gradient is
    a small difference of two of them, of which bf16 would leave little but rounding. The sum of exponentials is taken
    from the softmax's largest entry, so nats are finite whatever the logits are.
    """
    exact = _exact(logits)
    counted = labels != IGNORED
    goals = labels.clamp(min=0)[:, None]
    wanted = logits.gather(1, goals)[:, 0] if target is None else (logits * target).sum(-1, dtype=exact)
    lead = logits.amax(-1).to(exact) - wanted.to(exact)
    gradient = torch.softmax(logits, dim=-1, dtype=exact)
    nats = lead - gradient.amax(-1).log()
    if target is None:
        gradient.scatter_add_(1, goals, gradient.new_full((1, 1), -1.0).expand_as(goals))
    else:
        gradient.sub_(target)
    if head.softcap is not None:
        bent = logits.to(exact).div_(head.softcap)
        gradient.mul_(1 - bent.square_())
    if head.scale != 1.0 or not bool(counted.all()):
        gradient.mul_((counted * head.scale).to(exact)[:, None])
    return (nats * counted).sum(), gradient if logits.dtype == exact else logits.copy_(gradient)


def _exact(tensor: Tensor) -> torch.dtype:
    """In which type sums and differences of such numbers are made."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
