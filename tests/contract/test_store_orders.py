"""Transitions in any order: what is refused writes nothing, what has ended stays as it is, what is fenced says no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from tests.contract.databases import clear
from tests.contract.makers import begun, check_whole, contents, gpus, heard, step, submitted

from steep.server.failure import Ending
from steep.server.placement import Wait
from steep.server.store.attempts import Begun
from steep.server.store.store import Store
from steep.spec.api.attempts import ReportsRequest
from steep.spec.api.common import Problem
from steep.spec.errors import Conflict, Fenced
from steep.spec.reports import CheckpointReport, StageReport
from steep.spec.states import HOLDS, REASONS, IllegalTransition, Reason, Standing, State

ENDINGS = [
    Ending(0),
    Ending(3),
    Ending(None),
    Ending(-9),
    Ending(1, Problem(title="loss became NaN", status=1), step=3),
    Ending(2, Problem(title="no text", status=2, code="invalid_corpus")),
]
numbers = st.integers(0, 99)


class Orders(RuleBasedStateMachine):
    """Everybody who may do something to jobs, in any order."""

    store: Store
    clear: Callable[[], None]

    def __init__(self) -> None:
        super().__init__()
        type(self).clear()
        self.now = 0.0
        self.jobs: list[str] = []
        self.attempts: list[Begun] = []
        self.shut: set[str] = set()
        self.ended: dict[str, Standing] = {}

    def _try(self, action: Callable[[], Any]) -> Any:
        """Do it; where it is refused, it has written nothing."""
        self.now += 1.0
        before = contents(self.store)
        try:
            return action()
        except (Conflict, Fenced, IllegalTransition):
            assert contents(self.store) == before
            return None

    @rule(held=st.booleans())
    def submit(self, held: bool) -> None:
        if len(self.jobs) < 3:
            self.jobs.append(submitted(self.store, self.now, held=held).id)

    @rule(seconds=st.sampled_from([10.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.jobs)
    @rule(job=numbers, reason=st.sampled_from(sorted(REASONS[State.STOPPING])))
    def ask_to_stop(self, job: int, reason: Reason) -> None:
        job_id = self.jobs[job % len(self.jobs)]
        standing = self._try(lambda: self.store.jobs.request_stop(job_id, reason, "why", self.now))
        if standing is not None and reason is Reason.CANCEL_REQUESTED:
            assert standing.state is State.CANCELLED or standing.reason is Reason.CANCEL_REQUESTED

    @precondition(lambda self: self.jobs)
    @rule(job=numbers, reason=st.sampled_from(sorted(HOLDS)), release=st.booleans())
    def hold_or_release(self, job: int, reason: Reason, release: bool) -> None:
        job_id = self.jobs[job % len(self.jobs)]
        if release:
            self._try(lambda: self.store.jobs.release(job_id, self.now))
        else:
            self._try(lambda: self.store.jobs.hold(job_id, reason, "", self.now))

    @precondition(lambda self: self.jobs)
    @rule(job=numbers, devices=st.sets(st.integers(0, 2), min_size=1))
    def begin(self, job: int, devices: set[int]) -> None:
        job_id = self.jobs[job % len(self.jobs)]
        attempt = self._try(lambda: begun(self.store, job_id, self.now, gpus(*devices)))
        self.attempts += [] if attempt is None else [attempt]

    @precondition(lambda self: self.attempts)
    @rule(attempt=numbers, first=st.integers(0, 3))
    def report(self, attempt: int, first: int) -> None:
        one = self.attempts[attempt % len(self.attempts)]
        said = (step(1), CheckpointReport(step=1, event="saved"), StageReport(stage="export", event="completed"))
        answer = self._try(lambda: heard(self.store, one, self.now, *said, first=first))
        if answer is not None:
            assert one.token not in self.shut, "a token opened something after its attempt"

    @precondition(lambda self: self.attempts)
    @rule(attempt=numbers)
    def report_with_the_token_of_another(self, attempt: int) -> None:
        one = self.attempts[attempt % len(self.attempts)]
        where = (one.job_id, one.number, one.token[::-1])
        request = ReportsRequest(reports=(step(1),))
        assert self._try(lambda: self.store.attempts.record_reports(*where, request, self.now, lease_seconds=9)) is None

    @rule()
    def look_for_the_silent(self) -> None:
        self._try(lambda: self.store.attempts.expire_leases(self.now))

    @rule()
    def tell_who_waits(self) -> None:
        waits = [Wait(job, Reason.WAITING_FOR_DEVICES, "3 jobs ahead", 4) for job in self.jobs]
        self._try(lambda: self.store.queue.record_waits(waits, self.now))

    @precondition(lambda self: self.attempts)
    @rule(attempt=numbers, revoke=st.booleans())
    def lose_or_revoke(self, attempt: int, revoke: bool) -> None:
        one = self.attempts[attempt % len(self.attempts)]
        if revoke:
            self._try(lambda: self.store.attempts.revoke(one.job_id, one.number, "", self.now))
            self.shut.add(one.token)
        else:
            self._try(lambda: self.store.attempts.lose_contact(one.job_id, one.number, "", self.now))

    @precondition(lambda self: self.attempts)
    @rule(attempt=numbers, ending=st.sampled_from(ENDINGS))
    def finish(self, attempt: int, ending: Ending) -> None:
        one = self.attempts[attempt % len(self.attempts)]
        self._try(lambda: self.store.attempts.finish(one.job_id, one.number, ending, self.now))
        self.shut.add(one.token)

    @invariant()
    def all_is_whole(self) -> None:
        check_whole(self.store)

    @invariant()
    def what_has_ended_stays(self) -> None:
        for job in self.store.jobs.list(self.now).items:
            if job.standing.is_terminal:
                assert self.ended.setdefault(job.id, job.standing) == job.standing
            assert job.standing.is_terminal == (job.id in self.ended)
            assert job.standing.reason in REASONS[job.standing.state]
        for job_id, standing in self.ended.items():
            ends = [str(event.kind) for event in self.store.events.after(0, job_id=job_id)]
            assert [kind for kind in ends if kind in ("succeeded", "failed", "cancelled")] == [str(standing.state)]


def test_transitions_in_any_order(store: Store) -> None:
    machine = type("OrdersHere", (Orders,), {"store": store, "clear": staticmethod(lambda: clear(store))})
    examples = 20 if store.database.is_sqlite else 6
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
