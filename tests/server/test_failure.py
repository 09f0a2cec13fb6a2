"""What follows when a worker has ended: each row of the policy, and what holds whatever came before."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steep.server.failure import (
    AS_ASKED,
    Cancel,
    Ending,
    Fail,
    FailurePolicy,
    History,
    Requeue,
    Retry,
    Succeed,
    decide,
    step_in,
)
from steep.spec.api.common import Problem
from steep.spec.states import REASONS, Reason, State


def said(title: str, code: str = "failed", **more: str) -> Problem:
    return Problem(title=title, status=1, code=code, **more)


NAN = Ending(1, said("loss became NaN.", "training_failed"), step=812)
USERS = Ending(2, said("/text holds no text", "invalid_corpus"))
KILLED = Ending(-signal.SIGKILL, step=40)
CRASHED = Ending(-signal.SIGSEGV, step=40)
GONE = Ending(None, detail="the machine was restarted.", step=40)
STOPPED = Ending(3, said("SIGTERM was received", "stopped"), step=40)
FULL = Ending(3, said("the disk is full", "out_of_space"), step=40)
DONE = Ending(0, step=100)


def test_what_is_complete_succeeds():
    assert decide(History([GONE, NAN, NAN]), DONE) == Succeed()
    assert decide(History(asked=Reason.PAUSE_REQUESTED), DONE) == Succeed()


def test_a_cancel_has_the_last_word():
    cancelled = History(asked=Reason.CANCEL_REQUESTED)
    for ending in (DONE, NAN, USERS, KILLED, GONE, STOPPED):
        assert isinstance(decide(cancelled, ending), Cancel)
    assert decide(cancelled, DONE) == Cancel("cancelled; the work was complete by then")


def test_what_the_user_can_mend_fails_at_once_in_the_workers_words():
    assert decide(History(), USERS) == Fail(Reason.INVALID_INPUT, "/text holds no text")
    assert decide(History(asked=Reason.PREEMPT_REQUESTED), USERS) == Fail(Reason.INVALID_INPUT, "/text holds no text")


@pytest.mark.parametrize("ending", [Ending(2), Ending(2, said("process 7 is working here", "run_busy"))])
def test_an_exit_code_of_users_without_a_word_or_with_a_busy_run_is_tried_again(ending):
    assert isinstance(decide(History(), ending), Retry)


@pytest.mark.parametrize("asked", AS_ASKED)
@pytest.mark.parametrize("ending", [STOPPED, FULL, KILLED, GONE, CRASHED, NAN])
def test_what_was_asked_to_stop_is_where_it_was_asked_to_be(asked, ending):
    verdict = decide(History(asked=asked), ending)
    assert isinstance(verdict, Requeue)
    assert verdict.reason is AS_ASKED[asked]


def test_what_stopped_in_order_unasked_goes_on_later_and_never_runs_out_of_attempts():
    assert isinstance(decide(History([STOPPED] * 50, max_attempts=2), FULL), Retry)
    guard = Ending(3, said("novels is 0.08 bits per byte worse than the base", "stopped_by_guard"), step=40)
    assert decide(History(), guard) == Requeue(Reason.HELD_BY_GUARD, "novels is 0.08 bits per byte worse than the base")
    deadline = Ending(3, said("the job's deadline has passed"), deadline_passed=True)
    assert decide(History(), deadline) == Requeue(
        Reason.HELD_BY_LIMIT, "the job's deadline has passed: the job's deadline has passed"
    )


def test_a_failure_of_the_machine_is_tried_again_so_many_times():
    assert decide(History(), KILLED) == Retry(5.0, "the worker was ended by SIGKILL at step 40; goes on in 5.0 s")
    assert isinstance(decide(History([GONE] * 8), GONE), Retry)
    assert decide(History([GONE] * 9), GONE) == Fail(
        Reason.MACHINE_FAILED,
        "the machine was restarted at step 40; 10 attempts failed, and no more are allowed",
    )


def test_preemptions_and_pauses_are_no_failures():
    assert isinstance(decide(History([STOPPED] * 20 + [GONE] * 8), GONE), Retry)


def test_the_same_failure_at_the_same_step_three_times_is_a_diagnosis():
    assert isinstance(decide(History([NAN]), NAN), Retry)
    assert decide(History([NAN, GONE, NAN]), NAN) == Fail(
        Reason.REPEATED_FAILURE, "loss became NaN at step 812 three times"
    )
    elsewhere = Ending(1, NAN.problem, step=900)
    assert isinstance(decide(History([NAN, NAN]), elsewhere), Retry)
    named = Ending(1, said("loss became NaN at step 812"), step=812)
    assert decide(History([named] * 2), named) == Fail(
        Reason.REPEATED_FAILURE, "loss became NaN at step 812 three times"
    )
    assert isinstance(decide(History([CRASHED] * 2), CRASHED), Fail)


def test_what_is_killed_from_outside_at_the_same_step_is_no_diagnosis():
    assert isinstance(decide(History([KILLED] * 5), KILLED), Retry)
    assert isinstance(decide(History([GONE] * 5), GONE), Retry)


def test_a_hopeless_failure_ends_the_job_even_when_it_was_asked_to_pause():
    assert isinstance(decide(History([NAN, NAN], asked=Reason.PAUSE_REQUESTED), NAN), Fail)


def test_waits_grow_while_nothing_is_won_and_begin_anew_with_progress():
    def delay(*steps: int) -> float:
        *earlier, last = (Ending(None, step=step) for step in steps)
        verdict = decide(History(earlier, max_attempts=1000), last)
        assert isinstance(verdict, Retry)
        return verdict.delay_seconds

    assert [delay(*[7] * count) for count in (1, 2, 3, 4)] == [5.0, 10.0, 20.0, 40.0]
    assert delay(7, 7, 7, 8) == 5.0
    assert delay(*[7] * 200) == FailurePolicy().max_delay_seconds


def test_the_step_that_a_word_names_is_found():
    assert step_in(Problem(title="no", status=1, detail="step 1,812")) == 1812
    assert step_in(Problem(title="8 steps in a row were skipped", status=1, field="step 812")) == 812
    assert step_in(Problem(title="stopped at step 5 of 9", status=1)) == 5
    assert step_in(Problem(title="nothing", status=1)) is None


endings = st.builds(
    Ending,
    exit_code=st.sampled_from([0, 1, 2, 3, 137, None, -9, -11, -15, -250]),
    problem=st.none()
    | st.builds(said, st.text(max_size=5), st.sampled_from(["", "run_busy", "fenced", "damaged_artifact", "failed"])),
    step=st.none() | st.integers(0, 5),
    detail=st.text(max_size=5),
    deadline_passed=st.booleans(),
)
asked = st.none() | st.sampled_from([*AS_ASKED, Reason.CANCEL_REQUESTED])


@given(st.lists(endings, max_size=12), endings, asked, st.integers(1, 12))
def test_every_verdict_is_one_that_the_table_allows_and_says_why(earlier, ending, wanted, max_attempts):
    history = History(earlier, wanted, max_attempts)
    verdict = decide(history, ending)
    assert verdict == decide(history, ending)
    match verdict:
        case Fail(reason, detail):
            assert reason in REASONS[State.FAILED]
            assert detail
        case Requeue(reason, detail):
            assert reason in REASONS[State.QUEUED]
            assert detail
        case Retry(delay, detail):
            assert 5.0 <= delay <= 600.0
            assert detail
            failed = sum(not each.is_in_order for each in [*earlier, ending])
            assert ending.is_in_order or failed < max_attempts
    if wanted is Reason.CANCEL_REQUESTED:
        assert isinstance(verdict, Cancel)
    elif ending.exit_code == 0:
        assert verdict == Succeed()


def test_who_asked_is_named_beside_what_the_worker_said():
    history = History(asked=Reason.PAUSE_REQUESTED, asked_words="paused by Ada")
    stopped = Ending(3, Problem(title="stopped at step 7", status=500, code="stopped"))
    assert decide(history, stopped) == Requeue(Reason.HELD_BY_USER, "paused by Ada: stopped at step 7")
    assert decide(History(asked=Reason.CANCEL_REQUESTED, asked_words="cancelled by Ada"), stopped) == Cancel(
        "cancelled by Ada"
    )
