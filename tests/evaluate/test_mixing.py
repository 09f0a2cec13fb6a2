"""The mix that is fitted to the forgetting budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steep.evaluate.mixing import fitting_alpha


def test_between_the_two_that_enclose_the_budget():
    measured = {0.5: 0.03, 0.7: 0.06, 0.85: 0.08, 1.0: 0.11}
    assert fitting_alpha(measured, 0.05) == 0.63
    assert fitting_alpha(measured, 0.02) == 0.33  # between the base, which forgets nothing, and a half


def test_nothing_to_fit():
    assert fitting_alpha({0.5: 0.01, 1.0: 0.04}, 0.05) is None
    assert fitting_alpha({0.5: 0.05, 0.51: 0.06, 1.0: 0.2}, 0.05) is None
    assert fitting_alpha({1.0: 0.04}, 0.0) is None
    assert fitting_alpha({1.0: float("nan")}, 0.02) is None


@given(power=st.floats(1.0, 3.0), most=st.floats(0.001, 2.0), budget=st.floats(0.0, 0.5))
def test_what_bends_upwards_keeps_within_the_budget(power: float, most: float, budget: float):
    alpha = fitting_alpha({share: most * share**power for share in (0.5, 0.7, 0.85, 1.0)}, budget)
    if alpha is not None:
        assert most * alpha**power <= budget + 1e-9


@pytest.mark.parametrize("order", [(1.0, 0.5, 0.7), (0.5, 0.7, 1.0)])
def test_the_order_of_measurements_does_not_matter(order: tuple[float, ...]):
    assert fitting_alpha({share: 0.1 * share for share in order}, 0.06) == 0.6
