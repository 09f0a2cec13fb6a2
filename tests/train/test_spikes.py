import math
import random

from steep.train.spikes import DEVIATIONS, MIN_STEPS, WINDOW_STEPS, remember, why_skip
from steep.train.state import Progress


def trained(steps: int, seed: int = 0) -> Progress:
    noise, progress = random.Random(seed), Progress()
    for step in range(steps):
        remember(4.0 - 0.001 * step + noise.gauss(0, 0.1), math.exp(noise.gauss(0, 0.2)), progress)
    return progress


def test_what_is_not_finite_is_skipped_from_the_first_step() -> None:
    assert why_skip(math.nan, 1.0, Progress()) == "the loss is not finite"
    assert why_skip(2.0, math.inf, Progress()) == "the gradient is not finite"
    assert why_skip(2.0, 1.0, Progress()) is None


def test_a_spike_is_high_in_both() -> None:
    progress = trained(100)
    assert why_skip(9.0, 50.0, progress) is not None
    assert why_skip(9.0, 1.0, progress) is None
    assert why_skip(4.0, 50.0, progress) is None


def test_too_few_steps_judge_nothing() -> None:
    assert why_skip(9.0, 50.0, trained(MIN_STEPS - 1)) is None
    assert why_skip(9.0, 50.0, trained(MIN_STEPS)) is not None


def test_ordinary_noise_is_never_a_spike() -> None:
    noise, progress = random.Random(1), trained(200)
    for _ in range(5000):
        loss, norm = 3.8 + noise.gauss(0, 0.1), math.exp(noise.gauss(0, 0.2))
        assert why_skip(loss, norm, progress) is None
        remember(loss, norm, progress)
    assert len(progress.recent_losses) == WINDOW_STEPS


def test_even_losses_leave_room() -> None:
    progress = Progress()
    for _ in range(50):
        remember(2.0, 1.0, progress)
    assert why_skip(2.0 * (1 + 0.02 * DEVIATIONS) - 0.01, 10.0, progress) is None
    assert why_skip(2.0 * (1 + 0.02 * DEVIATIONS) + 0.01, 10.0, progress) is not None
