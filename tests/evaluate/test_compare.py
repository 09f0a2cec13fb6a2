"""Rows of the results table: weighting, the worst hold-out, the frontier."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steep.evaluate.compare import Measurement, base_score, frontier, score_row
from steep.spec.errors import DamagedArtifact
from steep.spec.results import Score

BASE = Measurement(
    domain={"peps": 3.0, "docs": 2.0}, general={"novels": 2.0, "masc": 2.5},
    domain_bytes={"peps": 3000, "docs": 1000}, general_bytes={"novels": 500, "masc": 90_000},
)  # fmt: skip


def measured(**changes: Any) -> Measurement:
    return BASE.model_copy(update=changes)


def test_the_domain_is_weighted_by_bytes() -> None:
    assert BASE.domain_bpb == pytest.approx(2.75)
    assert base_score(BASE).gain == 0
    assert base_score(BASE).forgetting == 0


def test_forgetting_is_the_worst_and_not_the_mean() -> None:
    """MASC improves by more than novels lose: the mean would hide it."""
    row = score_row(
        "checkpoint", measured(domain={"peps": 2.0, "docs": 2.0}, general={"novels": 2.1, "masc": 2.2}), BASE, step=5, tokens_seen=20,
    )  # fmt: skip
    assert row.gain == pytest.approx(0.75)
    assert row.forgetting == pytest.approx(0.1)
    assert row.worst_general == "novels"
    assert row.general_bpb < BASE.general_bpb


def test_no_forgetting_is_negative_when_every_hold_out_improves() -> None:
    row = score_row("checkpoint", measured(general={"novels": 1.9, "masc": 2.49}), BASE, step=5, tokens_seen=20)
    assert row.forgetting == pytest.approx(-0.01)
    assert row.worst_general == "masc"


def test_without_general_hold_outs_nothing_is_forgotten() -> None:
    bare = measured(general={}, general_bytes={})
    row = score_row("checkpoint", bare, bare, step=1, tokens_seen=1)
    assert (row.forgetting, row.worst_general) == (0.0, "")


def test_other_text_cannot_be_compared() -> None:
    other = measured(domain_bytes={"peps": 3000, "docs": 999})
    with pytest.raises(DamagedArtifact, match="other text"):
        score_row("checkpoint", other, BASE, step=1, tokens_seen=1)


def test_measurements_survive_json() -> None:
    assert Measurement.model_validate_json(BASE.model_dump_json()) == BASE


POINTS = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1, max_size=15)


@settings(deadline=None)
@given(POINTS)
def test_the_frontier_holds_those_that_nothing_beats(points: list[tuple[int, int]]) -> None:
    rows = [
        Score(kind="checkpoint", step=i, tokens_seen=i, domain_bpb=1, general_bpb=1, gain=gain, forgetting=loss)
        for i, (gain, loss) in enumerate(points)
    ]
    kept = frontier(rows)

    def beaten(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return b != a and b[0] >= a[0] and b[1] <= a[1]

    assert {points[i] for i in kept} == {p for p in points if not any(beaten(p, q) for q in points)}
    assert [points[i][0] for i in kept] == sorted(points[i][0] for i in kept)


@pytest.mark.parametrize("general", [{"novels": 1.9, "masc": math.nan}, {"novels": math.nan, "masc": 2.4}])
def test_a_hold_out_without_a_finite_score_is_not_hidden_by_another(general: dict[str, float]) -> None:
    row = score_row("checkpoint", measured(general=general), BASE, step=5, tokens_seen=20)
    assert math.isnan(row.forgetting)
    assert math.isnan(general[row.worst_general])
