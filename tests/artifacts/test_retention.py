"""Whatever the table, what must stay stays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steep.artifacts.retention import LEAST_GAIN_BPB, ROUNDING_BPB, CheckpointFacts, RetentionPolicy, to_delete
from steep.evaluate.selection import ROUNDING_BPB as SELECTION_ROUNDING_BPB
from steep.evaluate.selection import TIE_BPB, select
from steep.spec.results import Score

SCORES = st.one_of(
    st.none(), st.floats(-0.1, 0.1), st.sampled_from([0.0, 0.02, 0.05, math.nan, math.inf, -math.inf, 0.02 + 1e-10])
)


@st.composite
def tables(draw: st.DrawFn) -> list[CheckpointFacts]:
    steps = draw(st.lists(st.integers(1, 10**6), unique=True, max_size=12))
    return [
        CheckpointFacts(
            step=step,
            gain=draw(SCORES),
            forgetting=draw(SCORES),
            pinned=draw(st.sampled_from([False] * 4 + [True])),
            ancestor=draw(st.sampled_from([False] * 4 + [True])),
            valid=draw(st.sampled_from([True] * 4 + [False])),
        )
        for step in steps
    ]


POLICIES = st.builds(
    RetentionPolicy,
    keep_last=st.integers(1, 4),
    keep_best=st.integers(1, 3),
    forgetting_budget=st.sampled_from([0.0, 0.02, 0.05]),
)
many = settings(deadline=None, max_examples=80)


def kept(table: Sequence[CheckpointFacts], policy: RetentionPolicy) -> list[CheckpointFacts]:
    condemned = to_delete(table, policy)
    assert condemned == sorted(set(condemned) & {one.step for one in table})
    return [one for one in table if one.step not in condemned]


def scored(one: CheckpointFacts) -> bool:
    return all(value is not None and math.isfinite(value) for value in (one.gain, one.forgetting))


def row(one: CheckpointFacts) -> Score:
    assert one.gain is not None
    assert one.forgetting is not None
    return Score(
        kind="checkpoint",
        step=one.step,
        tokens_seen=one.step,
        domain_bpb=1.0 - one.gain,
        general_bpb=1.0,
        gain=one.gain,
        forgetting=one.forgetting,
    )


@many
@given(tables(), POLICIES)
def test_pinned_ones_and_ancestors_stay(table: list[CheckpointFacts], policy: RetentionPolicy) -> None:
    assert {one.step for one in table if one.pinned or one.ancestor} <= {one.step for one in kept(table, policy)}


@many
@given(tables(), POLICIES)
def test_the_newest_valid_ones_stay(table: list[CheckpointFacts], policy: RetentionPolicy) -> None:
    newest = sorted(one.step for one in table if one.valid)[-policy.keep_last :]
    assert set(newest) <= {one.step for one in kept(table, policy)}


@many
@given(tables(), st.integers(-3, 0), st.integers(-3, 0))
def test_the_last_valid_one_stays_whatever_the_policy(table: list[CheckpointFacts], last: int, best: int) -> None:
    valid = [one.step for one in table if one.valid]
    steps = {one.step for one in kept(table, RetentionPolicy(keep_last=last, keep_best=max(best, 0)))}
    assert not valid or max(valid) in steps


@many
@given(tables(), POLICIES)
def test_the_best_within_the_budget_stays(table: list[CheckpointFacts], policy: RetentionPolicy) -> None:
    within = [one for one in table if one.valid and scored(one) and (one.forgetting or 0.0) <= policy.forgetting_budget]
    most = max((one.gain for one in within if one.gain is not None and one.gain > LEAST_GAIN_BPB), default=None)
    assert most is None or any(one.gain == most for one in kept(within, policy))


@many
@given(tables(), POLICIES)
@example(  # what gains nothing stands within the budget; the rule takes the one that gains, though it is beyond
    [
        CheckpointFacts(step=1, gain=-0.1, forgetting=0.0),
        CheckpointFacts(step=2, gain=0.5, forgetting=0.03),
        CheckpointFacts(step=3),
    ],
    RetentionPolicy(keep_last=1),
)
@example(
    [
        CheckpointFacts(step=1, gain=math.nan, forgetting=0.0),
        CheckpointFacts(step=2, gain=0.05, forgetting=0.0),
        CheckpointFacts(step=3, gain=math.nan, forgetting=0.0),
        CheckpointFacts(step=4),
    ],
    RetentionPolicy(keep_last=1),
)
def test_selection_chooses_as_well_among_what_stays(table: list[CheckpointFacts], policy: RetentionPolicy) -> None:
    """The selection rule itself, on all and on what stays."""
    base = Score(kind="base", step=0, tokens_seen=0, domain_bpb=1.0, general_bpb=1.0, gain=0.0, forgetting=0.0)
    rows = [base, *(row(one) for one in table if one.valid and scored(one))]
    stayed = {one.step for one in kept(table, policy)}
    fewer = [base, *(one for one in rows[1:] if one.step in stayed)]
    budget = policy.forgetting_budget
    ideal, real = rows[select(rows, budget).index], fewer[select(fewer, budget).index]
    assert real.kind == ideal.kind
    assert (real.forgetting <= budget + ROUNDING_BPB) == (ideal.forgetting <= budget + ROUNDING_BPB)
    if ideal.forgetting <= budget + ROUNDING_BPB:
        assert real.gain >= ideal.gain - TIE_BPB
    else:
        assert real.forgetting <= ideal.forgetting + TIE_BPB


@many
@given(tables(), POLICIES)
def test_no_more_stay_than_there_are_reasons_for(table: list[CheckpointFacts], policy: RetentionPolicy) -> None:
    protected = sum(one.pinned or one.ancestor for one in table)
    assert len(kept(table, policy)) <= protected + policy.keep_last + policy.keep_best


@many
@given(tables(), POLICIES, st.randoms(use_true_random=False))
def test_the_order_of_the_table_decides_nothing_and_once_is_enough(
    table: list[CheckpointFacts], policy: RetentionPolicy, chance: object
) -> None:
    stayed = kept(table, policy)
    shuffled = list(table)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert to_delete(shuffled, policy) == to_delete(table, policy)
    assert to_delete(stayed, policy) == []


def test_the_rule_is_that_of_selection() -> None:
    assert (LEAST_GAIN_BPB, ROUNDING_BPB) == (TIE_BPB, SELECTION_ROUNDING_BPB)


def test_an_example() -> None:
    table = [
        CheckpointFacts(step=100, gain=0.3, forgetting=0.01),
        CheckpointFacts(step=200, gain=0.5, forgetting=0.01),
        CheckpointFacts(step=300, gain=0.9, forgetting=0.50),
        CheckpointFacts(step=400, gain=0.4, forgetting=0.01, pinned=True),
        CheckpointFacts(step=500, gain=0.4, forgetting=0.01, valid=False),
        CheckpointFacts(step=600),
        CheckpointFacts(step=700),
    ]
    assert to_delete(table, RetentionPolicy(keep_last=2, keep_best=1)) == [100, 300, 500]
    assert to_delete(table, RetentionPolicy(keep_last=1, keep_best=2)) == [100, 300, 500, 600]


@pytest.mark.parametrize("policy", [RetentionPolicy(), RetentionPolicy(keep_last=0, keep_best=0)])
def test_an_empty_table(policy: RetentionPolicy) -> None:
    assert to_delete([], policy) == []


def test_without_text_of_the_domain_what_selection_would_take_stays() -> None:
    """The last one within the budget; and the least forgetting where there is none."""
    forgetting = {100: 0.0, 200: 0.015, 300: 0.05, 400: 0.2, 500: 0.3}
    table = [CheckpointFacts(step, gain=math.nan, forgetting=lost) for step, lost in forgetting.items()]
    assert to_delete(table, RetentionPolicy(keep_last=1, keep_best=1)) == [100, 300, 400]
    assert to_delete(table[2:], RetentionPolicy(keep_last=1, keep_best=1)) == [400]
