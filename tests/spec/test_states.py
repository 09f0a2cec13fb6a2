"""The table of transitions: what it allows, what it absorbs, and that every state says why."""

from __future__ import annotations

import itertools

import pytest

from steep.spec.states import (
    HOLDING,
    REASONS,
    TERMINAL,
    TRANSITIONS,
    IllegalTransition,
    Reason,
    State,
    advance,
    begin,
)


def standing(state: State, now: float = 10.0):
    """A standing in `state`, by the shortest way that the table allows."""
    first = begin(State.QUEUED, Reason.SUBMITTED, "", now)
    if state is State.QUEUED:
        return first
    paths = [[State.QUEUED]]
    while paths:
        path = paths.pop(0)
        if path[-1] is state:
            for step in path[1:]:
                first = advance(first, step, min(REASONS[step]), "because", now)
            return first
        paths += [[*path, following] for following in sorted(TRANSITIONS[path[-1]]) if following not in path]
    raise AssertionError(f"{state} cannot be reached")


def test_every_state_can_be_reached_and_has_reasons():
    assert set(TRANSITIONS) == set(State) == set(REASONS)
    for state in State:
        assert standing(state).state is state
        assert REASONS[state]


def test_every_reason_belongs_to_one_state():
    owners = [reason for reasons in REASONS.values() for reason in reasons]
    assert sorted(owners) == sorted(Reason)


@pytest.mark.parametrize(("terminal", "to"), list(itertools.product(sorted(TERMINAL), State)))
def test_terminal_states_absorb(terminal, to):
    ended = standing(terminal)
    for reason in REASONS[to]:
        with pytest.raises(IllegalTransition):
            advance(ended, to, reason, "late news", 20.0)


def test_what_is_not_terminal_can_always_be_ended():
    for state in set(State) - TERMINAL:
        assert {State.FAILED, State.CANCELLED} <= TRANSITIONS[state]


def test_a_job_is_not_queued_again_as_if_it_were_provisioning():
    assert State.RUNNING not in TRANSITIONS[State.QUEUED]
    assert State.PROVISIONING not in TRANSITIONS[State.UNREACHABLE]  # a second start needs a fence first
    assert State.QUEUED not in HOLDING


def test_a_reason_of_another_state_is_refused():
    with pytest.raises(IllegalTransition, match="no reason"):
        advance(standing(State.QUEUED), State.PROVISIONING, Reason.WORKING, "", 1.0)
    with pytest.raises(IllegalTransition):
        begin(State.RUNNING, Reason.WORKING, "", 1.0)


def test_time_in_a_state_survives_a_new_reason():
    queued = standing(State.QUEUED, now=10.0)
    held = advance(queued, State.QUEUED, Reason.HELD_BY_USER, "held", 15.0)
    assert held.since == 10.0
    assert held.is_paused
    assert advance(held, State.PROVISIONING, Reason.STARTING, "", 20.0).since == 20.0
