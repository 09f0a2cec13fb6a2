"""The guard's decision: what follows on an evaluation, where training goes back to, and what that changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steep.evaluate.selection import select
from steep.planning.guard import (
    MAX_REPLAY_SHARE,
    MAX_ROLLBACKS,
    Rollback,
    Scored,
    Stop,
    Terms,
    Verdict,
    Warn,
    decide,
    guarded,
    replay_tokens,
    terms_after,
    why,
)
from steep.planning.recipe import Recipe
from steep.spec.results import Score

BUDGET = 0.05
OnForgetting = Literal["warn", "stop", "rollback"]


def terms(on_forgetting: OnForgetting = "rollback", **more: Any) -> Terms:
    return Terms(**{"budget": BUDGET, "warmup_steps": 10, "total_steps": 200, **more}, on_forgetting=on_forgetting)


def scored(*forgetting: float, every: int = 20) -> list[Scored]:
    """Evaluations at even steps, whose gain grows."""
    return [
        Scored(step, step / 1000, one, "novels")
        for step, one in zip(range(every, 10**6, every), forgetting, strict=False)
    ]


def follows(history: Sequence[Scored], terms: Terms, rolled_back_to: Sequence[int] = ()) -> Verdict | None:
    """The decision where every evaluation has a checkpoint."""
    return decide(history, terms, rolled_back_to=rolled_back_to, kept={one.step for one in history})


# ---- when


def test_two_in_a_row_beyond_the_budget_are_a_trend_and_one_is_chance() -> None:
    assert follows(scored(0.01, 0.02, 0.09), terms()) is None
    assert follows(scored(0.01, 0.09, 0.02, 0.09), terms()) is None
    assert follows(scored(0.01, 0.02, 0.06, 0.09), terms()) == Rollback(
        (Scored(60, 0.06, 0.06, "novels"), Scored(80, 0.08, 0.09, "novels")), to_step=40
    )


def test_what_is_just_at_the_budget_is_within_it() -> None:
    assert follows(scored(0.0, 0.0, BUDGET, BUDGET + 1e-12), terms()) is None
    assert follows(scored(0.0, 0.0, BUDGET + 1e-6, BUDGET + 1e-6), terms()) is not None


@pytest.mark.parametrize(("warmup_steps", "total_steps"), [(10, 600), (60, 200)], ids=["tenth", "warmup"])
def test_the_early_dip_does_not_count(warmup_steps: int, total_steps: int) -> None:
    """Both evaluations come after it, which ends with step 60 here."""
    when = terms(warmup_steps=warmup_steps, total_steps=total_steps)
    assert follows(scored(0.2, 0.2, 0.2), when) is None
    assert follows(scored(0.2, 0.2, 0.2, 0.2), when) is not None


def test_what_is_not_a_number_proves_nothing() -> None:
    assert follows(scored(0.0, 0.09, math.nan), terms()) is None
    assert follows(scored(0.0, 0.09, math.nan, 0.09), terms()) is None
    assert follows(scored(0.0, 0.09, math.inf), terms()) is not None


# ---- what


def test_a_warning_is_said_once_each_time_that_the_budget_is_passed() -> None:
    said = [isinstance(follows(scored(*([0.09] * count)), terms("warn")), Warn) for count in range(1, 6)]
    assert said == [False, True, False, False, False]
    assert isinstance(follows(scored(0.09, 0.09, 0.0, 0.09, 0.09), terms("warn")), Warn)


def test_it_stops_as_long_as_it_is_beyond_but_not_when_all_is_done() -> None:
    assert isinstance(follows(scored(0.0, 0.09, 0.09), terms("stop")), Stop)
    assert isinstance(follows(scored(0.0, 0.09, 0.09, 0.09), terms("stop")), Stop)
    assert isinstance(follows(scored(0.0, 0.09, 0.09), terms("stop", total_steps=60)), Warn)
    assert isinstance(follows(scored(0.0, 0.09, 0.09), terms("rollback", total_steps=60)), Rollback)


def test_what_was_measured_before_a_rollback_counts_no_more() -> None:
    history = scored(0.0, 0.09, 0.09)
    assert follows(history, terms(), [60]) is None
    assert follows([*history, Scored(80, 0.1, 0.09)], terms(), [60]) is None
    assert isinstance(follows([*history, Scored(80, 0.1, 0.09), Scored(100, 0.1, 0.09)], terms(), [60]), Rollback)


def test_after_two_rollbacks_it_warns() -> None:
    assert isinstance(follows(scored(0.0, 0.0, 0.09, 0.09), terms(), [40, 40]), Warn)
    assert follows(scored(0.0, 0.0, 0.09, 0.09, 0.09), terms(), [40, 40]) is None


# ---- where to


def to_step(history: Sequence[Scored], kept: set[int], **more: Any) -> int:
    verdict = decide(history, terms(**more), rolled_back_to=(), kept=kept)
    assert isinstance(verdict, Rollback)
    return verdict.to_step


def test_it_goes_back_to_the_best_checkpoint_that_is_there() -> None:
    history = scored(0.0, 0.03, 0.04, 0.09, 0.08)
    assert to_step(history, {20, 40, 60, 80, 100}) == 60  # the most gain within the budget
    assert to_step(history, {20, 40, 80, 100}) == 40
    assert to_step(history, {80, 100}) == 100  # none is within: the least forgetting
    assert to_step(history, set()) == 0
    assert to_step(history, set(), first_step=15) == 15


def test_a_checkpoint_that_gains_nothing_is_no_better_than_the_base() -> None:
    history = [Scored(20, 0.0, 0.0), Scored(40, -0.1, 0.01), Scored(60, 0.0, 0.09), Scored(80, 0.0, 0.09)]
    assert to_step(history, {20, 40, 60, 80}) == 0


def test_without_a_known_gain_it_is_the_last_within_the_budget() -> None:
    history = [Scored(step, math.nan, lost) for step, lost in ((20, 0.01), (40, 0.02), (60, 0.09), (80, 0.08))]
    assert to_step(history, {20, 40, 60, 80}) == 40
    assert to_step(history, {60, 80}) == 80


NUMBERS = st.one_of(st.floats(-0.2, 0.2), st.sampled_from([0.0, BUDGET, math.nan, math.inf]))
HISTORIES = st.lists(st.tuples(st.integers(1, 200), NUMBERS, NUMBERS), max_size=12, unique_by=lambda one: one[0]).map(
    lambda rows: [Scored(*row) for row in sorted(rows)]
)


@given(HISTORIES, st.sampled_from(["warn", "stop", "rollback"]), st.data())
def test_whatever_the_history(history: list[Scored], on_forgetting: OnForgetting, data: st.DataObject) -> None:
    steps = [one.step for one in history]
    kept = set(data.draw(st.lists(st.sampled_from(steps), unique=True))) if steps else set()
    before = data.draw(st.lists(st.integers(0, 200), max_size=MAX_ROLLBACKS))
    verdict = decide(history, terms(on_forgetting), rolled_back_to=before, kept=kept)
    if verdict is None:
        return
    assert [one.step for one in verdict.evidence] == steps[-2:]
    assert all(one.forgetting > BUDGET and one.step >= 20 for one in verdict.evidence)
    assert all(one.step > before[-1] for one in verdict.evidence) if before else True
    match verdict:
        case Rollback():
            assert on_forgetting == "rollback"
            assert len(before) < MAX_ROLLBACKS
            assert verdict.to_step in kept | {0}
        case Stop():
            assert on_forgetting == "stop"


@given(HISTORIES)
def test_it_goes_back_to_what_would_be_selected(history: list[Scored]) -> None:
    """Up to differences that decide nothing."""
    verdict = decide(history, terms(), rolled_back_to=(), kept={one.step for one in history})
    if not isinstance(verdict, Rollback) or any(math.isnan(one.gain) for one in history):
        return
    base = Score(kind="base", step=0, tokens_seen=0, domain_bpb=2.0, general_bpb=1.0, gain=0.0, forgetting=0.0)
    rows = [base]
    for one in history:
        numbers = {"step": one.step, "tokens_seen": one.step, "gain": one.gain, "forgetting": one.forgetting}
        rows.append(base.model_copy(update={"kind": "checkpoint", **numbers}))
    selected = rows[select(rows, BUDGET).index]
    chosen = next(row for row in rows if row.step == verdict.to_step)
    by_gain = abs(chosen.gain - selected.gain) <= 1e-4
    assert chosen == selected or by_gain or abs(chosen.forgetting - selected.forgetting) <= 1e-4


# ---- what it changes


def recipe(share: float = 0.25, rate: float = 1e-3) -> Recipe:
    return Recipe(
        sequence_tokens=100, sequences_per_step=10, microbatch_sequences=1, total_steps=200, schedule="wsd", peak_rate=rate,
        final_rate=0.0, warmup_steps=10, decay_steps=50, replay_share=share, weight_decay=0.1, betas=(0.9, 0.95),
        clip_norm=1.0, average_steps=0, lora=None, precision="fp32", compile=False, activation_checkpointing=False,
        checkpoint_every_steps=20, checkpoint_every_seconds=None, evaluate_every_steps=None, evaluate_every_seconds=None,
        total_tokens=200_000, epochs=1.5,
    )  # fmt: skip


def test_each_rollback_halves_the_rate_and_doubles_the_replay() -> None:
    assert guarded(recipe(), []) == recipe()
    once, twice = guarded(recipe(0.2), [80]), guarded(recipe(0.2), [80, 120])
    assert (once.peak_rate, once.replay_share) == (5e-4, 0.4)
    assert (twice.peak_rate, twice.replay_share) == (2.5e-4, MAX_REPLAY_SHARE)
    assert once.decisions[-1].field == "replay_share"
    assert "20% was planned" in once.decisions[-1].reason


@pytest.mark.parametrize(("planned", "after"), [(0.0, 0.0), (0.3, 0.5), (0.5, 0.5), (0.8, 0.8)])
def test_half_of_the_tokens_is_the_most_replay_and_none_stays_none(planned: float, after: float) -> None:
    assert guarded(recipe(planned), [80]).replay_share == after


def test_replay_and_epochs_are_those_of_the_whole_line() -> None:
    """Of 200 steps, 80 are from before the rollback."""
    assert replay_tokens(recipe(), []) == pytest.approx(0.25 * 200_000)
    assert replay_tokens(recipe(), [80]) == pytest.approx(0.25 * 80_000 + 0.5 * 120_000)
    assert guarded(recipe(), [80]).epochs == pytest.approx(1.5 * (0.75 * 80 + 0.5 * 120) / (0.75 * 200))
    assert replay_tokens(recipe(0.1), [120, 80]) == pytest.approx(0.1 * 80_000 + 0.4 * 120_000)
    assert replay_tokens(recipe(0.1), [80, 120]) == pytest.approx(0.1 * 80_000 + 0.2 * 40_000 + 0.4 * 80_000)


# ---- what it says


def test_it_says_what_was_measured() -> None:
    evidence = [Scored(120, 0.1, 0.0751, "novels"), Scored(140, 0.1, 0.083, "novels")]
    assert why(evidence, 0.05) == (
        "novels is 0.075 and 0.083 bits per byte worse than the base at steps 120 and 140, beyond the budget of 0.05"
    )
    assert "novels is 0.083 bits per byte worse than the base at steps 120 and 140" in why(
        [Scored(120, 0.1, 0.083, "novels"), evidence[1]], 0.05
    )
    assert "novels 0.075 at step 120 and news 0.090 at step 140" in why(
        [evidence[0], Scored(140, 0.1, 0.09, "news")], 0.05
    )


def test_it_says_with_what_training_goes_on() -> None:
    assert terms_after(guarded(recipe(rate=9.8e-4), [80])) == "rate 0.00049 and 50% replay"
    assert terms_after(guarded(recipe(0.0), [80])) == "rate 0.0005 and no replay"
