"""A budget in time is planned by what a step takes: its passes, and one update."""

from __future__ import annotations

import pytest
from tests.train.helpers import MakeSetup

from steep.train import pace
from steep.train.pace import measure_pace


@pytest.mark.parametrize(
    ("passes", "one", "two", "seconds"),
    [(1, 3.0, 0.0, 3.0), (8, 3.0, 5.0, 17.0), (8, 3.0, 9.0, 24.0), (8, 3.0, 3.1, 13.5)],
)
def test_an_update_is_paid_once_a_step(passes: int, one: float, two: float, seconds: float) -> None:
    assert pace._step_seconds(passes, one, two) == seconds


@pytest.mark.parametrize("microbatch", [1, 4])
def test_a_real_pace_is_measured(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch, microbatch: int) -> None:
    monkeypatch.setattr(pace, "PROBE_SECONDS", 0.0)
    setup = make_setup(microbatch_sequences=microbatch)
    assert 100 < measure_pace(setup) < 10_000_000
    assert not setup.checkpoints.steps()
