"""How much of a checkpoint to mix with the base, so that the mix forgets as much as the budget allows and no more. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

STEP = 0.01
"""Mixes are measured at whole hundredths of the checkpoint's weights."""


def fitting_alpha(forgetting: Mapping[float, float], budget: float) -> float | None:
    """The largest share of the checkpoint that should keep within the budget, where it is worth another measurement.

    Forgetting bends upwards as the share grows, so between two measured shares the straight line lies above it: a share that
    the line allows keeps within the budget.

    Args:
        forgetting: bits per byte by share, of at least the whole checkpoint (share 1). The base, share 0, forgets nothing.
        budget: bits per byte.

    Returns:
        A share between two measured ones, or None: the checkpoint itself is within the budget, or a share that is has been
        measured right below it.
    """
    measured = {0.0: 0.0, **{alpha: value for alpha, value in forgetting.items() if math.isfinite(value)}}
    above = min((alpha for alpha, value in measured.items() if value > budget), default=None)
    if above is None:
        return None
    below = max(alpha for alpha in measured if alpha < above)
    rise = measured[above] - measured[below]
    fitting = below + (above - below) * (budget - measured[below]) / rise
    alpha = round(math.floor(fitting / STEP + 1e-9) * STEP, 2)
    return alpha if below + STEP / 2 < alpha < above else None
