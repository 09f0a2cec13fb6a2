"""Which steps not to apply: those that are not finite, and those far outside what the run has seen lately.

A step is a spike when its loss *and* its gradient norm both lie far above the recent median, in units of the median
absolute deviation. Either alone is no reason: a hard text has a high loss and an ordinary gradient, and a large gradient
is clipped anyway. The rule needs no tuning to the size of a model, and a spike does not spoil what it is measured by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from steep.train.state import Progress

WINDOW_STEPS = 128
MIN_STEPS = 16  # a median of fewer says little
DEVIATIONS = 8.0
MAD_TO_SIGMA = 1.4826  # of a normal distribution
MIN_LOSS_SIGMA = 0.02  # relative to the median: very even losses are no reason to call a small step up a spike
MIN_NORM_SIGMA = 0.1

SKIPS_BEFORE_ROLLBACK = 4
MAX_ROLLBACKS = 3
RATE_AFTER_ROLLBACK = 0.5


def why_skip(loss: float, gradient_norm: float, progress: Progress) -> str | None:
    """The reason not to apply a step, or None.

    Args:
        loss: mean nats per token of the step.
        gradient_norm: of the whole gradient, before clipping.
        progress: holds what recent steps had.
    """
    if not math.isfinite(loss):
        return "the loss is not finite"
    if not math.isfinite(gradient_norm):
        return "the gradient is not finite"
    if len(progress.recent_losses) < MIN_STEPS:
        return None
    loss_limit = _limit(progress.recent_losses, MIN_LOSS_SIGMA)
    norm_limit = _limit(progress.recent_norms, MIN_NORM_SIGMA)
    if loss > loss_limit and gradient_norm > norm_limit:
        return (
            f"the loss of {loss:.3f} is above {loss_limit:.3f}, and the gradient norm of {gradient_norm:.3g} above "
            f"{norm_limit:.3g}, the limits by the last {len(progress.recent_losses)} steps"
        )
    return None


def remember(loss: float, gradient_norm: float, progress: Progress) -> None:
    """Note the numbers of an applied step."""
    progress.recent_losses = [*progress.recent_losses, loss][-WINDOW_STEPS:]
    progress.recent_norms = [*progress.recent_norms, gradient_norm][-WINDOW_STEPS:]


def _limit(values: Sequence[float], min_sigma: float) -> float:
    middle = median(values)
    sigma = MAD_TO_SIGMA * median(abs(value - middle) for value in values)
    return middle + DEVIATIONS * max(sigma, min_sigma * abs(middle))
