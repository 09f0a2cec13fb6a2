"""AdamW over fp32 master weights: fused, and without decay on what must not shrink.

An update is made element by element, so each process makes that of its own shards, on plain tensors: asking the library how
sharded lists of all weights behave takes seconds in a process's first step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn

from steep.train.mesh import local


class ShardedAdamW(torch.optim.AdamW):
    """AdamW whose arithmetic is done on what this process holds; its state stays sharded like the weights."""

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> Any:
        has_complex = super()._init_group(group, *lists)
        for tensors in lists:
            tensors[:] = map(local, tensors)
        return has_complex


def make_optimizer(model: nn.Module, *, betas: tuple[float, float], weight_decay: float) -> ShardedAdamW:
    """AdamW (Loshchilov and Hutter 2019) over the trainable weights; the rate is set at each step.

    Norms, biases and other vectors are not decayed: their scale is not what regularisation is after.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trainable if parameter.dim() >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trainable if parameter.dim() < 2], "weight_decay": 0.0},
    ]
    return ShardedAdamW([group for group in groups if group["params"]], lr=0.0, betas=betas, eps=1e-8, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next update."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The 2-norm of the whole gradient, over all processes, a scalar tensor."""
    gradients = [local(parameter.grad) for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if distributed.is_initialized() and distributed.get_world_size() > 1:
        squared = norm.square()
        distributed.all_reduce(squared)
        norm = squared.sqrt()
    return norm


def apply_update(optimizer: torch.optim.Optimizer, *, rate: float, gradient_scale: float) -> None:
    """Scale the gradients, for normalisation and clipping in one pass, and make the step.

    Args:
        rate: learning rate.
        gradient_scale: what every gradient is multiplied by.
    """
    set_rate(optimizer, rate)
    gradients = [local(p.grad) for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if gradient_scale != 1.0:
        torch._foreach_mul_(gradients, gradient_scale)
    optimizer.step()
