"""The conformance suite of the store, on every kind of database: the life of jobs and attempts."""

from __future__ import annotations

import pytest
from tests.contract.makers import (
    LEASE_SECONDS,
    begun,
    check_whole,
    contents,
    gpus,
    heard,
    rows,
    running,
    spec,
    state,
    step,
    submitted,
)

from steep.server.failure import Cancel, Ending, Fail, Requeue, Retry, Succeed
from steep.server.store.jobs import Idempotency
from steep.server.store.store import Store
from steep.server.waiting import queue_order
from steep.spec.api.attempts import ReportsRequest
from steep.spec.api.common import Problem
from steep.spec.api.jobs import JobChange
from steep.spec.api.projects import ProjectRequest, Quota
from steep.spec.errors import Conflict, Fenced, InvalidSpec, NotFound
from steep.spec.events import EventKind
from steep.spec.reports import CheckpointReport, StageReport
from steep.spec.service import Limits
from steep.spec.states import IllegalTransition, Reason, State

GONE = Ending(exit_code=None, detail="the machine was restarted")
STOPPED = Ending(exit_code=3, problem=Problem(title="stopped at step 5", status=3, code="stopped"))


def kinds(store: Store, job_id: str) -> list[str]:
    return [str(event.kind) for event in store.events.after(0, job_id=job_id)]


# ------------------------------------------------------------------------------------------------------------ submission


def test_a_job_is_queued_with_all_that_its_spec_says(store: Store) -> None:
    whole = spec(priority=7, gpu="H100", gpu_count=2, location="eu", limits={"cost": 3}, more={"tags": ["b", "a"]})
    job, is_new = store.jobs.submit(whole, 5.0, created_by="key-1")
    assert is_new
    assert (job.priority, job.tags, job.created_by, job.created_at) == (7, ("b", "a"), "key-1", 5.0)
    assert job.limits == Limits(cost=3)
    assert store.jobs.spec(job.id) == whole
    assert state(store, job.id) == (State.QUEUED, "submitted")
    assert kinds(store, job.id) == ["created", "queued"]
    assert store.jobs.detail(job.id, 6.0).attempt_list == ()


def test_the_same_request_again_is_the_same_job_whatever_has_become_of_it(store: Store) -> None:
    once = Idempotency("k", "hash-1")
    job, is_new = store.jobs.submit(spec(), 0.0, idempotency_key=once)
    store.jobs.request_stop(job.id, Reason.CANCEL_REQUESTED, "", 1.0)
    again, is_new_again = store.jobs.submit(spec(), 2.0, idempotency_key=once)
    assert (is_new, is_new_again, again.id) == (True, False, job.id)
    assert again.standing.state is State.CANCELLED
    with pytest.raises(Conflict, match="another request"):
        store.jobs.submit(spec("other"), 3.0, idempotency_key=Idempotency("k", "hash-2"))
    other, _ = store.jobs.submit(spec(), 3.0, idempotency_key=Idempotency("k", "hash-1", scope="docs"))
    assert other.id != job.id


def test_a_job_of_no_project_is_refused_and_leaves_nothing(store: Store) -> None:
    before = contents(store)
    with pytest.raises(InvalidSpec, match="no project nowhere"):
        store.jobs.submit(spec(project="nowhere"), 0.0, idempotency_key=Idempotency("k", "h"))
    assert contents(store) == before
    assert rows(store, "SELECT * FROM idempotency") == []


def test_a_job_that_is_not_there_is_said(store: Store) -> None:
    for ask in (
        lambda: store.jobs.get("job-none", 0.0),
        lambda: store.jobs.request_stop("job-none", Reason.CANCEL_REQUESTED, "", 0.0),
        lambda: store.jobs.spec("job-none"),
        lambda: begun(store, "job-none"),
        lambda: store.jobs.get("a\0b", 0.0),
    ):
        with pytest.raises(NotFound):
            ask()


# ------------------------------------------------------------------------------------------------------------- steering


def test_a_queued_job_is_held_and_let_go_on(store: Store) -> None:
    job = submitted(store)
    store.jobs.request_stop(job.id, Reason.PAUSE_REQUESTED, "lunch", 1.0)
    assert state(store, job.id) == (State.QUEUED, "held_by_user")
    with pytest.raises(Conflict, match="not waiting"):
        begun(store, job.id)
    store.jobs.release(job.id, 2.0)
    assert state(store, job.id) == (State.QUEUED, "resumed")
    store.jobs.hold(job.id, Reason.HELD_BY_LIMIT, "used up", 3.0)
    with pytest.raises(IllegalTransition):
        store.jobs.hold(job.id, Reason.WORKING, "", 4.0)
    assert state(store, job.id) == (State.QUEUED, "held_by_limit")
    assert kinds(store, job.id)[2:] == ["paused", "released", "paused"]
    assert submitted(store, held=True).standing.is_paused


def test_a_cancel_of_a_queued_job_ends_it_at_once_and_for_ever(store: Store) -> None:
    job = submitted(store, held=True)
    assert store.jobs.request_stop(job.id, Reason.CANCEL_REQUESTED, "enough", 1.0).state is State.CANCELLED
    before = contents(store)
    assert store.jobs.request_stop(job.id, Reason.CANCEL_REQUESTED, "again", 2.0).detail == "enough"
    for ask in (
        lambda: store.jobs.request_stop(job.id, Reason.PAUSE_REQUESTED, "", 3.0),
        lambda: store.jobs.release(job.id, 3.0),
        lambda: store.jobs.hold(job.id, Reason.HELD_BY_USER, "", 3.0),
        lambda: store.jobs.change(job.id, JobChange(priority=5), 3.0),
        lambda: begun(store, job.id, 3.0),
    ):
        with pytest.raises(Conflict):
            ask()
    assert contents(store) == before


STOPS = {
    Reason.CANCEL_REQUESTED: ("cancel", State.CANCELLED, "cancelled_by_user"),
    Reason.PAUSE_REQUESTED: ("pause", State.QUEUED, "held_by_user"),
    Reason.LIMIT_REACHED: ("pause", State.QUEUED, "held_by_limit"),
    Reason.GUARD_STOPPED: ("pause", State.QUEUED, "held_by_guard"),
    Reason.DEVICES_IDLE: ("pause", State.QUEUED, "held_while_idle"),
    Reason.PREEMPT_REQUESTED: ("preempt", State.QUEUED, "preempted"),
}


@pytest.mark.parametrize("reason", STOPS)
def test_a_running_job_is_told_to_stop_and_then_is_where_it_was_asked_to_be(store: Store, reason: Reason) -> None:
    directive, after, why = STOPS[reason]
    attempt = running(store)
    assert heard(store, attempt, 3.0).directive == "none"
    store.jobs.request_stop(attempt.job_id, reason, "because", 4.0)
    store.jobs.request_stop(attempt.job_id, reason, "because", 4.5)
    answer = heard(store, attempt, 5.0)
    assert (answer.directive, answer.directive_detail) == (directive, "because")
    assert state(store, attempt.job_id) == (State.STOPPING, str(reason))
    store.attempts.finish(attempt.job_id, attempt.number, STOPPED, 6.0)
    assert state(store, attempt.job_id) == (after, why)
    assert kinds(store, attempt.job_id).count("stopping") == 1
    assert store.queue.leases() == []
    check_whole(store)


def test_a_cancel_overrides_other_requests_and_nothing_overrides_a_cancel(store: Store) -> None:
    attempt = running(store)
    for reason, expected in (
        (Reason.PREEMPT_REQUESTED, "preempt_requested"),
        (Reason.PAUSE_REQUESTED, "pause_requested"),
        (Reason.LIMIT_REACHED, "pause_requested"),
        (Reason.PREEMPT_REQUESTED, "pause_requested"),
        (Reason.CANCEL_REQUESTED, "cancel_requested"),
        (Reason.PAUSE_REQUESTED, "cancel_requested"),
    ):
        store.jobs.request_stop(attempt.job_id, reason, "", 4.0)
        assert state(store, attempt.job_id) == (State.STOPPING, expected)
        check_whole(store)
    verdict = store.attempts.finish(attempt.job_id, attempt.number, Ending(exit_code=0), 6.0)
    assert isinstance(verdict, Cancel)
    assert state(store, attempt.job_id) == (State.CANCELLED, "cancelled_by_user")


def test_a_pause_that_is_taken_back_while_the_job_stops_lets_it_go_on_afterwards(store: Store) -> None:
    attempt = running(store)
    store.jobs.request_stop(attempt.job_id, Reason.PAUSE_REQUESTED, "", 4.0)
    store.jobs.release(attempt.job_id, 5.0)
    store.attempts.finish(attempt.job_id, 1, STOPPED, 6.0)
    assert not store.jobs.get(attempt.job_id, 7.0).standing.is_paused
    assert begun(store, attempt.job_id, 7.0).number == 2


def test_priority_tags_and_limits_of_a_job_may_change(store: Store) -> None:
    job = submitted(store)
    changed = store.jobs.change(job.id, JobChange(priority=3, tags=("x", "y", "x"), limits=Limits(tokens=9)), 1.0)
    assert (changed.priority, changed.tags, changed.limits) == (3, ("x", "y"), Limits(tokens=9))
    changed = store.jobs.change(job.id, JobChange(limits=Limits(cost=2.0)), 1.0)
    assert changed.limits == Limits(tokens=9, cost=2.0), "what is not given stays"
    assert store.jobs.change(job.id, JobChange(limits=Limits(tokens=None)), 1.0).limits == Limits(cost=2.0)
    store.jobs.request_stop(job.id, Reason.CANCEL_REQUESTED, "", 2.0)
    assert store.jobs.change(job.id, JobChange(tags=()), 3.0).tags == ()


def test_a_limit_is_told_once(store: Store) -> None:
    job = submitted(store)
    told = [store.jobs.tell_limit(job.id, "cost:warn:3", EventKind.LIMIT_WARNED, "80 %", 1.0) for _ in range(3)]
    assert told == [True, False, False]
    assert store.jobs.tell_limit(job.id, "cost:warn:9", EventKind.LIMIT_WARNED, "80 %", 2.0)
    assert kinds(store, job.id).count("limit_warned") == 2


def test_a_job_is_deleted_only_when_it_has_ended(store: Store) -> None:
    attempt = running(store)
    heard(store, attempt, 3.0, CheckpointReport(step=1, event="saved", size_bytes=5))
    with pytest.raises(Conflict, match="cancel it first"):
        store.jobs.delete(attempt.job_id, 4.0)
    store.attempts.finish(attempt.job_id, 1, Ending(exit_code=0), 5.0)
    store.jobs.delete(attempt.job_id, 6.0)
    assert all(not found for table, found in contents(store).items() if table != "counters")
    with pytest.raises(Fenced):
        heard(store, attempt, 7.0)


# ------------------------------------------------------------------------------------------------- attempts and devices


def test_an_attempt_gets_all_its_devices_or_none(store: Store) -> None:
    first, second = submitted(store), submitted(store)
    begun(store, first.id, devices=gpus(1, 2))
    before = contents(store)
    with pytest.raises(Conflict, match="lent already"):
        begun(store, second.id, devices=gpus(0, 1, 3))
    assert contents(store) == before
    assert [(lease.device_id, lease.job_id) for lease in store.queue.leases()] == [
        ("gpu-1", first.id),
        ("gpu-2", first.id),
    ]
    begun(store, second.id, devices=gpus(0, 3))
    check_whole(store)


def test_a_job_has_one_living_attempt(store: Store) -> None:
    job = submitted(store)
    begun(store, job.id, devices=gpus(0))
    with pytest.raises(Conflict, match="not waiting"):
        begun(store, job.id, devices=gpus(1))
    check_whole(store)


def test_a_token_is_kept_as_its_hash_and_opens_its_own_attempt_only(store: Store) -> None:
    one, other = running(store, devices=gpus(0)), running(store, devices=gpus(1))
    assert one.token not in repr(contents(store))
    before = contents(store)
    for job_id, number, token in (
        (other.job_id, 1, one.token),
        (one.job_id, 2, one.token),
        (one.job_id, 1, ""),
        (one.job_id, 1, one.token + "x"),
        ("job-none", 1, one.token),
    ):
        with pytest.raises(Fenced):
            store.attempts.record_reports(job_id, number, token, ReportsRequest(), 9.0, lease_seconds=1.0)
    assert contents(store) == before


def test_a_quota_is_kept_whoever_decided_otherwise(store: Store) -> None:
    store.projects.create(ProjectRequest(name="docs", quota=Quota(gpus=2, jobs=2)), 0.0)
    for name in ("a", "b", "c"):
        submitted(store, name=name, project="docs")
    ids = [job.id for job in store.jobs.list(0.0).items]
    begun(store, ids[0], devices=gpus(0))
    with pytest.raises(Conflict, match="uses 1 of its 2 GPUs"):
        begun(store, ids[1], devices=gpus(1, 2))
    begun(store, ids[1], devices=gpus(1))
    with pytest.raises(Conflict, match="runs 2 of its 2 jobs"):
        begun(store, ids[2], devices=[])
    project = store.projects.get("docs")
    assert (project.gpus_in_use, project.jobs_in_use) == (2, 2)


def test_a_handle_is_written_once(store: Store) -> None:
    attempt = begun(store, submitted(store).id)
    store.attempts.provisioned(attempt.job_id, 1, "pid-1", 2.0)
    store.attempts.provisioned(attempt.job_id, 1, "pid-1", 2.0)
    with pytest.raises(Conflict):
        store.attempts.provisioned(attempt.job_id, 1, "pid-2", 2.0)
    assert [one.handle for one in store.attempts.living()] == ["pid-1"]
    store.attempts.finish(attempt.job_id, 1, GONE, 3.0)
    with pytest.raises(Conflict, match="has ended"):
        store.attempts.provisioned(attempt.job_id, 1, "pid-1", 4.0)


# ------------------------------------------------------------------------------------------------------- lost and found


def test_the_first_report_makes_it_running(store: Store) -> None:
    attempt = begun(store, submitted(store).id)
    assert state(store, attempt.job_id) == (State.PROVISIONING, "starting")
    answer = heard(store, attempt, 2.0)
    assert (answer.next_report, answer.lease_seconds) == (0, LEASE_SECONDS)
    assert state(store, attempt.job_id) == (State.RUNNING, "working")
    assert kinds(store, attempt.job_id)[2:] == ["provisioned", "started"]


def test_a_silent_attempt_is_unreachable_and_never_started_again_by_that(store: Store) -> None:
    attempt = running(store)
    heard(store, attempt, 10.0)
    assert store.attempts.expire_leases(10.0 + LEASE_SECONDS - 1) == []
    assert store.attempts.expire_leases(10.0 + LEASE_SECONDS) == [(attempt.job_id, 1)]
    assert store.attempts.expire_leases(10.0 + LEASE_SECONDS) == []
    assert state(store, attempt.job_id) == (State.UNREACHABLE, "lease_expired")
    assert len(store.queue.leases()) == 1
    with pytest.raises(Conflict):
        begun(store, attempt.job_id, 200.0, gpus(1))
    heard(store, attempt, 300.0)
    assert state(store, attempt.job_id) == (State.RUNNING, "working")
    assert kinds(store, attempt.job_id)[-2:] == ["unreachable", "reached_again"]
    assert store.attempts.expire_leases(300.0 + LEASE_SECONDS - 1) == []
    check_whole(store)


def test_a_backend_that_is_silent_makes_it_unreachable_too(store: Store) -> None:
    attempt = running(store)
    assert store.attempts.lose_contact(attempt.job_id, 1, "no answer", 5.0)
    assert not store.attempts.lose_contact(attempt.job_id, 1, "no answer", 6.0)
    assert state(store, attempt.job_id) == (State.UNREACHABLE, "backend_silent")


def test_an_attempt_that_is_stopping_is_not_called_unreachable_but_is_watched(store: Store) -> None:
    attempt = running(store)
    store.jobs.request_stop(attempt.job_id, Reason.CANCEL_REQUESTED, "", 5.0)
    assert store.attempts.expire_leases(1000.0) == []
    assert not store.attempts.lose_contact(attempt.job_id, 1, "", 1000.0)
    assert [one.job_id for one in store.attempts.living(lapsed_at=1000.0)] == [attempt.job_id]
    assert store.attempts.living(lapsed_at=6.0) == []


def test_a_fenced_attempt_writes_nothing_more_and_holds_its_devices_until_it_is_finished(store: Store) -> None:
    attempt = running(store)
    store.attempts.expire_leases(100.0)
    assert store.attempts.revoke(attempt.job_id, 1, "taken for dead", 101.0)
    assert not store.attempts.revoke(attempt.job_id, 1, "again", 102.0)
    before = contents(store)
    with pytest.raises(Fenced):
        heard(store, attempt, 103.0, step(1))
    assert contents(store) == before
    assert len(store.queue.leases()) == 1
    store.attempts.finish(attempt.job_id, 1, GONE, 104.0)
    assert store.queue.leases() == []
    assert begun(store, attempt.job_id, 200.0).number == 2
    with pytest.raises(Fenced):
        heard(store, attempt, 201.0)


def test_what_is_asked_of_a_lost_job_is_not_forgotten(store: Store) -> None:
    attempt = running(store)
    store.attempts.expire_leases(100.0)
    store.jobs.request_stop(attempt.job_id, Reason.CANCEL_REQUESTED, "enough", 101.0)
    assert heard(store, attempt, 102.0).directive == "cancel"
    store.attempts.finish(attempt.job_id, 1, GONE, 103.0)
    assert state(store, attempt.job_id) == (State.CANCELLED, "cancelled_by_user")


# --------------------------------------------------------------------------------------------------------------- endings


def test_success_ends_the_job_and_counts_what_it_used(store: Store) -> None:
    job = submitted(store)
    attempt = store.attempts.begin(job.id, "local", gpus(0, 1), 10.0, lease_seconds=60.0, price_per_second=0.5)
    running_cost = store.jobs.get(job.id, 14.0).cost
    assert (running_cost.gpu_seconds, running_cost.work_seconds, running_cost.amount) == (8.0, 4.0, 2.0)
    assert isinstance(store.attempts.finish(job.id, attempt.number, Ending(exit_code=0), 20.0), Succeed)
    done = store.jobs.get(job.id, 100.0)
    assert (done.standing.state, done.ended_at, done.attempts) == (State.SUCCEEDED, 20.0, 1)
    assert (done.cost.gpu_seconds, done.cost.work_seconds, done.cost.amount) == (20.0, 10.0, 5.0)
    assert kinds(store, job.id)[-1] == "succeeded"


def test_a_machine_that_failed_is_tried_again_after_a_while(store: Store) -> None:
    attempt = running(store)
    verdict = store.attempts.finish(attempt.job_id, 1, GONE, 10.0)
    assert isinstance(verdict, Retry)
    assert state(store, attempt.job_id) == (State.QUEUED, "backing_off")
    with pytest.raises(Conflict, match="backing_off"):
        begun(store, attempt.job_id, 10.0 + verdict.delay_seconds - 0.1)
    assert begun(store, attempt.job_id, 10.0 + verdict.delay_seconds).number == 2
    first, _ = store.jobs.attempts(attempt.job_id)
    assert (first.standing.state, first.standing.reason) == (State.FAILED, Reason.MACHINE_FAILED)


def test_a_clock_that_was_ahead_keeps_nobody_waiting(store: Store) -> None:
    attempt = running(store)
    assert isinstance(store.attempts.finish(attempt.job_id, 1, GONE, 1800.0), Retry)
    assert [job.id for job in queue_order(store.queue.snapshot(20.0))] == [attempt.job_id]
    assert begun(store, attempt.job_id, 20.0).number == 2
    held = submitted(store, 30.0, held=True)
    store.jobs.release(held.id, 1800.0)
    assert begun(store, held.id, 40.0, gpus(1)).number == 1


def test_what_the_user_can_mend_fails_at_once_in_the_workers_words(store: Store) -> None:
    attempt = running(store)
    problem = Problem(title="/text holds no text", status=2, code="invalid_corpus", cure="Give files with text.")
    verdict = store.attempts.finish(attempt.job_id, 1, Ending(exit_code=2, problem=problem), 10.0)
    assert verdict == Fail(Reason.INVALID_INPUT, "/text holds no text")
    job = store.jobs.detail(attempt.job_id, 11.0)
    assert (job.standing.state, job.standing.detail) == (State.FAILED, "/text holds no text")
    assert job.attempt_list[0].error == problem
    assert store.events.after(0, job_id=job.id)[-1].data["problem"]["cure"] == "Give files with text."


def test_the_same_failure_at_the_same_step_three_times_is_a_diagnosis(store: Store) -> None:
    job_id, now = submitted(store).id, 0.0
    failed = Ending(exit_code=1, problem=Problem(title="loss became NaN", status=1, code="training_failed"))
    for number in range(1, 4):
        attempt = begun(store, job_id, now := now + 1000.0)
        heard(store, attempt, now + 1, step(811), step(812), first=(number - 1) * 2)
        verdict = store.attempts.finish(job_id, number, failed, now + 2)
    assert verdict == Fail(Reason.REPEATED_FAILURE, "loss became NaN at step 812 three times")
    assert state(store, job_id) == (State.FAILED, "repeated_failure")
    check_whole(store)


def test_a_deadline_that_passed_holds_the_job(store: Store) -> None:
    attempt = running(store, more={"deadline": 50})
    verdict = store.attempts.finish(attempt.job_id, 1, STOPPED, 60.0)
    assert isinstance(verdict, Requeue)
    assert state(store, attempt.job_id) == (State.QUEUED, "held_by_limit")


def test_nothing_that_arrives_late_raises_the_dead(store: Store) -> None:
    attempt = running(store)
    store.attempts.finish(attempt.job_id, 1, Ending(exit_code=0), 10.0)
    before = contents(store)
    with pytest.raises(Fenced):
        heard(
            store,
            attempt,
            11.0,
            CheckpointReport(step=9, event="saved"),
            StageReport(stage="export", event="completed"),
        )
    late = ReportsRequest(reports=(CheckpointReport(step=9, event="saved"),))
    with pytest.raises(Fenced):
        store.attempts.catch_up(attempt.job_id, 1, late, 11.0)
    assert store.attempts.finish(attempt.job_id, 1, GONE, 12.0) is None
    assert store.attempts.expire_leases(1e9) == []
    assert not store.attempts.lose_contact(attempt.job_id, 1, "", 13.0)
    assert not store.attempts.revoke(attempt.job_id, 1, "", 13.0)
    assert contents(store) == before
