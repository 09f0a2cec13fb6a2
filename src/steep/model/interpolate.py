"""Mixes of two models: weights on the straight line from the base to a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from steep.spec.errors import InvalidModel


def interpolate(base_state: Mapping[str, Tensor], state: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """`base + alpha (checkpoint - base)`, computed in fp32, in the base's types; what is no float is the checkpoint's.

    Args:
        base_state: weights of the base, by name.
        state: weights of the checkpoint, by the same names.
        alpha: share of the checkpoint; 0 is the base and 1 the checkpoint, exactly.

    Raises:
        InvalidModel: the two are not of the same architecture.
    """
    if base_state.keys() != state.keys():
        name = sorted(base_state.keys() ^ state.keys())[0]
        raise InvalidModel(
            f"only one of the two models has {name}", cure="Mix a checkpoint with the base it comes from."
        )
    mixed = {}
    for name, ours in base_state.items():
        theirs = state[name]
        if ours.shape != theirs.shape:
            raise InvalidModel(
                f"{name} is {list(ours.shape)} in the base and {list(theirs.shape)} in the checkpoint",
                cure="Mix a checkpoint with the base it comes from.",
            )
        mixed[name] = _between(ours, theirs, alpha) if ours.is_floating_point() else theirs
    return mixed


def _between(base: Tensor, other: Tensor, alpha: float) -> Tensor:
    """A tensor between two, in the first one's type."""
    return torch.lerp(base.float(), other.to(base.device).float(), alpha).to(base.dtype)
