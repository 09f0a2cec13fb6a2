"""All that exact resume needs, as live objects."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class Progress:
    """How far a run is; small and JSON-able, part of each checkpoint.

    Args:
        step: optimizer steps behind us, skipped ones included.
        tokens_seen: input tokens of those steps.
        cursor: global index of the next sequence.
        skipped_steps: steps whose update was not applied.
        skipped_in_a_row: how many of them were the last ones.
        rollbacks: times that the run went back to a checkpoint.
        rate_scale: factor on the schedule's rate; below 1 after repeated rollbacks.
        recent_losses: losses of the last applied steps, oldest first; what a spike is measured against.
        recent_norms: gradient norms before clipping of the same steps.
        averaged_steps: steps in the average of the weights.
    """

    step: int = 0
    tokens_seen: int = 0
    cursor: int = 0
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    rollbacks: int = 0
    rate_scale: float = 1.0
    recent_losses: list[float] = field(default_factory=list)
    recent_norms: list[float] = field(default_factory=list)
    averaged_steps: int = 0


@dataclass
class TrainingState:
    """What a checkpoint holds; random number generators are captured beside it.

    Args:
        model: the root that is trained, a module whose forward takes a batch and returns `(sum of nats, labels)`.
        optimizer: over the trainable weights of the model.
        progress: how far the run is.
        average: mean of the weights over the last steps, fp32, by parameter name; None until it begins.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    progress: Progress
    average: dict[str, Tensor] | None = None
