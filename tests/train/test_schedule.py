import math

import pytest

from steep.train.schedule import Kind, Schedule, rate

GOLDEN = {
    # peak 1.0, 10 steps, 2 of warmup, 4 of decay, down to 0.1
    "wsd": [0.5, 1, 1, 1, 1, 1, 0.59751, 0.43079, 0.30286, 0.19502],
    "cosine": [0.5, 1, 0.97286, 0.89472, 0.775, 0.62814, 0.47186, 0.325, 0.20528, 0.12714],
    "linear": [0.5, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2],
    "constant": [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1],
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_golden(kind: Kind) -> None:
    schedule = Schedule(1.0, 10, warmup_steps=2, decay_steps=4, kind=kind, final_share=0.1)
    assert [round(rate(step, schedule), 5) for step in range(10)] == GOLDEN[kind]


@pytest.mark.parametrize("kind", GOLDEN)
@pytest.mark.parametrize(("total", "warmup", "decay"), [(1, 0, 0), (1, 1, 1), (7, 0, 7), (100, 5, 20), (10, 8, 9)])
def test_rates_are_positive_and_bounded(kind: Kind, total: int, warmup: int, decay: int) -> None:
    schedule = Schedule(3e-4, total, warmup_steps=warmup, decay_steps=decay, kind=kind)
    rates = [rate(step, schedule) for step in range(total)]
    assert all(0 < value <= 3e-4 for value in rates)
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_wsd_decay_is_one_minus_the_root() -> None:
    schedule = Schedule(2.0, 1000, decay_steps=199, kind="wsd")
    assert rate(800, schedule) == 2.0
    assert rate(801 + 49, schedule) == pytest.approx(2.0 * (1 - math.sqrt(0.25)))


def test_a_step_beyond_the_end_has_the_final_rate() -> None:
    assert rate(50, Schedule(1.0, 10, kind="cosine", final_share=0.25)) == pytest.approx(0.25)
