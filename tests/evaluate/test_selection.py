"""The selection rule: most gain within the budget, over any table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from steep.evaluate.selection import TIE_BPB, mark, select
from steep.spec.results import Score

BASE = Score(kind="base", step=0, tokens_seen=0, domain_bpb=3.0, general_bpb=2.0, gain=0.0, forgetting=0.0)


def row(
    gain: float, forgetting: float, *, step: int = 10, kind: Any = "checkpoint", alpha: float | None = None
) -> Score:
    return Score(
        kind=kind, step=step, tokens_seen=step * 4096, alpha=alpha, domain_bpb=3.0 - gain, general_bpb=2.0 + forgetting,
        gain=gain, forgetting=forgetting, worst_general="novels",
    )  # fmt: skip


def chosen(rows: Sequence[Score], budget: float = 0.02) -> int:
    return select([BASE, *rows], budget).index


def test_most_gain_within_the_budget() -> None:
    table = [row(0.5, 0.01), row(0.9, 0.02, step=20), row(1.5, 0.021, step=30)]
    picked = select([BASE, *table], 0.02)
    assert picked.index == 2
    assert picked.warnings == ()
    assert "+0.9000" in picked.reason
    assert "novels" in picked.reason


def test_the_reason_is_a_sentence_for_one_and_for_many() -> None:
    one = select([BASE, row(0.9, 0.01), row(1.5, 0.3, step=20)], 0.02)
    assert one.reason == (
        "step 10: the only one that gains (+0.9000 bits per byte) and keeps forgetting within 0.02; it is +0.0100 on novels"
    )
    two = select([BASE, row(0.5, 0.0), row(0.9, 0.01, step=20)], 0.02)
    assert "the most gain (+0.9000 bits per byte) of the 2 that keep forgetting within 0.02" in two.reason


def test_where_there_is_nothing_to_forget_gain_decides_and_nothing_else_is_spoken_of() -> None:
    table = [row(0.5, -3.0), row(0.9, 0.4, step=20)]
    for rows, reason in (
        (table, "step 20: the most gain (+0.9000 bits per byte) of the 2 that gain"),
        (table[:1], "step 10: the only one that gains (+0.5000 bits per byte)"),
    ):
        picked = select([BASE, *rows], None)
        assert (picked.reason, picked.warnings) == (reason, ())
    unknown = select([BASE.model_copy(update={"domain_bpb": math.nan}), unmeasured(0.4, 10), unmeasured(0.9, 20)], None)
    assert unknown.reason == "step 20: the last that was trained, as the gain was not measured"
    assert "forgetting" not in " ".join(unknown.warnings)


def test_interpolations_and_averages_compete() -> None:
    table = [row(1.5, 0.05, step=30), row(1.2, 0.019, step=30, kind="interpolation", alpha=0.7)]
    assert chosen(table) == 2
    assert chosen([*table, row(1.3, 0.018, step=30, kind="average")]) == 3


def test_ties_go_to_the_earlier() -> None:
    assert chosen([row(1.0 + 0.9 * TIE_BPB, 0.01, step=20), row(1.0, 0.01, step=10)]) == 2
    assert chosen([row(1.0 + 1.5 * TIE_BPB, 0.01, step=20), row(1.0, 0.01, step=10)]) == 1
    assert chosen([row(1.0, 0.01), row(1.0, 0.01, kind="interpolation", alpha=0.9)]) == 1


def test_none_within_the_budget_means_least_forgetting_and_a_warning() -> None:
    picked = select([BASE, row(1.5, 0.3), row(1.0, 0.1, step=20)], 0.02)
    assert picked.index == 2
    assert len(picked.warnings) == 1
    assert "within 0.02" in picked.warnings[0]


def test_a_model_that_gains_nothing_does_not_qualify() -> None:
    """A mix near the base forgets nothing, and teaches nothing: it is not better than a checkpoint that learned."""
    assert chosen([row(1.0, 0.05), row(-0.01, 0.0, kind="interpolation", alpha=0.1)]) == 1


def test_the_base_only_when_nothing_gains() -> None:
    for table in ([], [row(-0.2, -0.1)], [row(0.0, 0.0)]):
        picked = select([BASE, *table], 0.02)
        assert picked.index == 0
        assert picked.warnings


def test_broken_numbers_are_left_out_and_said() -> None:
    picked = select([BASE, row(math.nan, 0.0), row(0.5, 0.01), row(0.9, math.inf)], 0.02)
    assert picked.index == 2
    assert picked.warnings[0].startswith("2 of 3")


def test_mark_leaves_exactly_one_selected() -> None:
    table = [BASE, row(0.5, 0.01).model_copy(update={"selected": True}), row(0.9, 0.01)]
    marked = mark(table, select(table, 0.02))
    assert [score.selected for score in marked] == [False, False, True]


NUMBERS = st.floats(-0.5, 2.0).map(lambda value: round(value, 4))
ROWS = st.lists(
    st.builds(lambda gain, loss, step: row(gain, loss / 10, step=step), NUMBERS, NUMBERS, st.integers(1, 50)),
    max_size=12,
)
BUDGETS = st.floats(0, 0.3)


@settings(deadline=None)
@given(ROWS, BUDGETS)
def test_nothing_allowed_beats_the_choice(rows: list[Score], budget: float) -> None:
    table = [BASE, *rows]
    picked = select(table, budget)
    choice = table[picked.index]
    gaining = [score for score in rows if score.gain > TIE_BPB]
    allowed = [score for score in gaining if score.forgetting <= budget]
    if allowed:
        assert choice.forgetting <= budget + 1e-9
        assert all(score.gain <= choice.gain + TIE_BPB + 1e-12 for score in allowed)
        assert picked.warnings == ()
    elif gaining:
        assert choice.gain > TIE_BPB
        assert all(choice.forgetting <= score.forgetting + TIE_BPB + 1e-12 for score in gaining)
        assert picked.warnings
    else:
        assert picked.index == 0


@settings(deadline=None)
@given(ROWS, BUDGETS, BUDGETS)
def test_a_larger_budget_never_gains_less(rows: list[Score], one: float, other: float) -> None:
    table = [BASE, *rows]
    small, large = (table[select(table, budget).index] for budget in sorted((one, other)))
    if small.forgetting <= min(one, other):
        assert large.gain >= small.gain - TIE_BPB


@settings(deadline=None)
@given(ROWS, BUDGETS, st.randoms(use_true_random=False))
def test_order_of_rows_decides_only_between_equals(rows: list[Score], budget: float, random: Any) -> None:
    shuffled = random.sample(rows, len(rows))
    first, second = [BASE, *rows], [BASE, *shuffled]
    assert first[select(first, budget).index] == second[select(second, budget).index]


def unmeasured(forgetting: float, step: int, kind: Any = "checkpoint") -> Score:
    """A row of a job that holds nothing of its domain out."""
    nothing = {"domain_bpb": math.nan, "gain": math.nan}
    return row(0.0, forgetting, step=step, kind=kind).model_copy(update=nothing)


def test_without_a_domain_holdout_training_is_not_thrown_away() -> None:
    base = BASE.model_copy(update={"domain_bpb": math.nan})
    picked = select([base, unmeasured(0.0, 10), unmeasured(0.01, 20), unmeasured(0.5, 30)], 0.02)
    assert picked.index == 2
    assert "no text of the domain is held out" in picked.warnings[0]
    picked = select([base, unmeasured(0.2, 10), unmeasured(0.1, 20)], 0.02)
    assert picked.index == 2
    assert "nothing keeps forgetting within" in picked.warnings[1]
    assert select([base, unmeasured(0.0, 10), unmeasured(math.inf, 20)], 0.02).index == 1
