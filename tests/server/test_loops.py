"""Loops over a real store and a real backend, with little workers: what a dead replica left, silence, limits, preemption."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from tests.artifacts.disks import fill, small_disk
from tests.contract.backends import REPOSITORY
from tests.contract.databases import postgresql_databases, sqlite_databases, why_no_postgresql
from tests.contract.local_backend import COLD, lose_contact
from tests.server.placing import PATIENT, SOON, Place, begin_without_handle, is_gone
from tests.server.serving import Serving, serving, wait_for

from steep.compute.contract import Order
from steep.compute.local.backend import LocalBackend
from steep.server.bell import Bell
from steep.server.loops.limits import LimitsLoop
from steep.server.loops.loop import Loop
from steep.server.loops.scheduler import Scheduler
from steep.server.secretbox import SecretBox
from steep.server.settings import Patience
from steep.server.store.ids import new_id
from steep.spec.api.attempts import ReportsRequest
from steep.spec.api.jobs import JobChange
from steep.spec.errors import OutOfSpace
from steep.spec.events import EventKind
from steep.spec.job import JobSpec
from steep.spec.service import Limits
from steep.spec.states import Reason, State

__all__ = ["small_disk"]


@pytest.fixture(autouse=True)
def _workers_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    with LocalBackend(tmp_path, cpu_slots=1, warm=False, program=COLD) as backend:
        yield backend


def test_an_attempt_that_was_begun_and_never_submitted_is(tmp_path: Path, backend: LocalBackend) -> None:
    with serving(tmp_path, {"local": backend}, patience=PATIENT) as house:  # it dies before it submits
        place = Place(house)
        job = place.submit("finish")
        devices = [state.device for state in backend.capacity().devices]
        place.store.attempts.begin(job, "local", devices, time.time() - 60, lease_seconds=180)
    with serving(tmp_path, {"local": backend}, loops=True, patience=PATIENT) as house:
        place = Place(house)
        assert place.wait(job, State.SUCCEEDED).attempts == 1


def test_an_attempt_that_was_submitted_unseen_is_not_started_twice(tmp_path: Path, backend: LocalBackend) -> None:
    with serving(tmp_path, {"local": backend}, patience=PATIENT) as house:  # it dies before it writes the handle down
        place = Place(house)
        job, begun, devices = begin_without_handle(place, backend, "steady")
        names = tuple(device.id for device in devices)
        handle = backend.submit(Order(job, 1, place.service.run(job).path, names, {"STEEP_ATTEMPT_TOKEN": begun.token}))
        process = place.process(job)
    with serving(tmp_path, {"local": backend}, loops=True, patience=PATIENT) as house:
        place = Place(house)
        wait_for(lambda: place.store.attempts.living()[0].handle == handle, 20)
        assert place.process(job) == process
        assert process.is_running()
        place.store.jobs.request_stop(job, Reason.CANCEL_REQUESTED, "enough", time.time())
        place.service.bell.ring()
        assert place.wait(job, State.CANCELLED).attempts == 1
        assert place.is_said(job, "saved")


def test_a_worker_that_was_heard_of_keeps_its_token_when_its_handle_was_never_written_down(
    tmp_path: Path, backend: LocalBackend
) -> None:
    with serving(tmp_path, {"local": backend}, patience=PATIENT) as house:  # it dies before it writes the handle down
        place = Place(house)
        job, begun, devices = begin_without_handle(place, backend, "steady")
        names = tuple(device.id for device in devices)
        handle = backend.submit(Order(job, 1, place.service.run(job).path, names, {"STEEP_ATTEMPT_TOKEN": begun.token}))

        def hear() -> None:
            place.store.attempts.record_reports(job, 1, begun.token, ReportsRequest(), time.time(), lease_seconds=60)

        hear()
    with serving(tmp_path, {"local": backend}, loops=True, patience=PATIENT) as house:
        place = Place(house)
        wait_for(lambda: place.store.attempts.living()[0].handle == handle, 20)
        hear()  # it is not fenced
        place.store.jobs.request_stop(job, Reason.CANCEL_REQUESTED, "enough", time.time())
        place.service.bell.ring()
        assert place.wait(job, State.CANCELLED).attempts == 1


def test_an_attempt_that_was_fenced_before_it_had_a_handle_is_ended(tmp_path: Path, backend: LocalBackend) -> None:
    with serving(tmp_path, {"local": backend}, patience=PATIENT) as house:  # it could not submit, fences, and dies
        place = Place(house)
        job = place.submit("finish")
        devices = [state.device for state in backend.capacity().devices]
        place.store.attempts.begin(job, "local", devices, time.time() - 60, lease_seconds=180)
        place.store.attempts.revoke(job, 1, "could not be started", time.time())
    with serving(tmp_path, {"local": backend}, loops=True, patience=PATIENT, policy=SOON) as house:
        place = Place(house)
        assert place.wait(job, State.SUCCEEDED).standing.is_terminal
        assert place.store.queue.leases() == []


def set_unreadable_secret(place: Place) -> None:
    """What is left of a secret when the key of secrets is another one."""
    place.store.secrets.put("default", "HF_TOKEN", SecretBox(Fernet.generate_key()).lock("lost"), time.time())


def test_a_job_whose_secrets_cannot_be_opened_is_held_and_holds_up_no_other(
    tmp_path: Path, backend: LocalBackend
) -> None:
    with serving(tmp_path, {"local": backend}, patience=PATIENT) as house:
        place = Place(house)
        place.store.projects.ensure("other", time.time())
        set_unreadable_secret(place)
        first = place.submit("finish")
        second = place.submit("finish", service={"project": "other"})
        for _ in range(2):
            Scheduler(place.service).turn()
        held = place.job(first)
        assert (held.standing.reason, held.attempts) == (Reason.HELD_BY_USER, 0)
        assert "HF_TOKEN was encrypted with another key" in held.standing.detail
        assert [lease.job_id for lease in place.store.queue.leases()] == [second]
        place.store.secrets.put("default", "HF_TOKEN", place.service.box.lock("found"), time.time())
        place.store.jobs.release(first, time.time(), "resumed")
    with serving(tmp_path, {"local": backend}, loops=True, patience=PATIENT) as house:
        for job in (first, second):
            assert Place(house).wait(job, State.SUCCEEDED).attempts == 1


@pytest.mark.parametrize("left", ["nothing", "a worker", "no run directory"])
def test_an_attempt_whose_secrets_cannot_be_opened_any_more_is_ended(
    tmp_path: Path, backend: LocalBackend, left: str
) -> None:
    with serving(tmp_path, {"local": backend}, patience=PATIENT) as house:  # it dies before it writes the handle down
        place = Place(house)
        job, begun, devices = begin_without_handle(place, backend, "hang")
        run = place.service.run(job).path
        if left == "a worker":
            backend.submit(Order(job, 1, run, (devices[0].id,), {"STEEP_ATTEMPT_TOKEN": begun.token}))
            process = place.process(job)
        elif left == "no run directory":
            shutil.rmtree(run)
        set_unreadable_secret(place)
    with serving(tmp_path, {"local": backend}, loops=True, patience=PATIENT, policy=SOON) as house:
        place = Place(house)
        place.wait(job, State.QUEUED, Reason.HELD_BY_USER)
        assert place.store.queue.leases() == []
        assert left != "a worker" or is_gone(process)


def test_a_cancelled_attempt_that_cannot_be_submitted_is_ended(tmp_path: Path, backend: LocalBackend) -> None:
    with serving(tmp_path, {"local": backend}, patience=PATIENT) as house:
        place = Place(house)
        job = place.submit("finish")
        devices = [state.device for state in backend.capacity().devices]
        place.store.attempts.begin(job, "local", devices, time.time() - 60, lease_seconds=180)
        place.store.jobs.request_stop(job, Reason.CANCEL_REQUESTED, "enough", time.time())
        set_unreadable_secret(place)
    with serving(tmp_path, {"local": backend}, loops=True, patience=PATIENT) as house:
        place = Place(house)
        place.wait(job, State.CANCELLED)
        assert place.store.queue.leases() == []


class FullFor(LocalBackend):
    """Its disk is full for the first few orders."""

    orders_refused = 0

    def submit(self, order: Order) -> str:
        if self.orders_refused < 3:
            self.orders_refused += 1
            raise OutOfSpace("the disk is full", where=str(order.run_directory))
        return super().submit(order)


def test_a_full_disk_is_no_failure_of_a_job_that_could_not_begin(tmp_path: Path) -> None:
    with (
        FullFor(tmp_path, cpu_slots=1, warm=False, program=COLD) as backend,
        serving(tmp_path, {"local": backend}, loops=True, patience=PATIENT, policy=SOON) as house,
    ):
        place = Place(house)
        job = place.submit("finish", service={"max_attempts": 2})
        assert place.wait(job, State.SUCCEEDED, seconds=60).attempts == 4


def test_a_full_disk_keeps_no_other_job_from_beginning(tmp_path: Path, small_disk: Path) -> None:
    with (
        LocalBackend(tmp_path / "data", cpu_slots=2, warm=False, program=COLD) as backend,
        serving(tmp_path / "data", {"local": backend}, loops=True, patience=PATIENT) as house,
    ):
        place = Place(house)
        first = new_id("job")
        place.service.settings.run_directory(first).symlink_to(small_disk)
        filler = fill(small_disk)
        values = {"name": "first", "base": "org/x", "corpus": {"sources": ["hf://org/x"]}}
        place.store.jobs.submit(JobSpec.model_validate(values), time.time(), job_id=first)
        place.wait(place.submit("finish"), State.SUCCEEDED)
        assert place.job(first).standing.state is State.QUEUED
        filler.unlink()
        wait_for(lambda: place.job(first).attempts > 0, 20)
        place.store.jobs.request_stop(first, Reason.CANCEL_REQUESTED, "enough", time.time())
        place.service.bell.ring()
        place.wait(first, State.CANCELLED)


def test_silence_is_no_failure_until_it_is_fenced(tmp_path: Path, backend: LocalBackend) -> None:
    patience = Patience(lease=1.0, unreachable=1.0, loop=1.0, look=0.1)
    with serving(tmp_path, {"local": backend}, loops=True, patience=patience, policy=SOON) as house:
        place = Place(house)
        job = place.submit("hang", service={"max_attempts": 2})
        first = place.process(job)
        place.wait(job, State.UNREACHABLE, Reason.LEASE_EXPIRED)
        assert first.is_running()  # lost contact ends nothing
        wait_for(lambda: place.job(job).attempts == 2)
        assert is_gone(first)  # and nothing begins before all of it is gone
        kinds = place.kinds(job)
        expected = [EventKind.UNREACHABLE, EventKind.FENCED, EventKind.RETRIED, EventKind.PROVISIONED]
        assert [kind for kind in kinds[3:] if kind in expected][:4] == expected
        assert place.service.run(job).fence.height() == 2
        failed = place.wait(job, State.FAILED)
        assert failed.standing.reason is Reason.MACHINE_FAILED
        assert place.store.queue.leases() == []


def test_what_cannot_be_seen_is_not_started_again(tmp_path: Path, backend: LocalBackend) -> None:
    with serving(tmp_path, {"local": backend}, loops=True, patience=PATIENT) as house:
        place = Place(house)
        job = place.submit("steady")
        process = place.process(job)
        wait_for(lambda: place.store.attempts.living()[0].handle is not None, 20)
        handle = place.store.attempts.living()[0].handle
        assert handle is not None
        with lose_contact(handle):
            place.wait(job, State.UNREACHABLE, Reason.BACKEND_SILENT)
            time.sleep(1.0)
            assert place.job(job).attempts == 1
            assert process.is_running()
        place.store.jobs.request_stop(job, Reason.CANCEL_REQUESTED, "enough", time.time())
        place.service.bell.ring()
        place.wait(job, State.CANCELLED)
        assert is_gone(process)


def test_a_lower_priority_makes_room(tmp_path: Path, backend: LocalBackend) -> None:
    with serving(tmp_path, {"local": backend}, loops=True, patience=PATIENT) as house:
        place = Place(house)
        low = place.submit("steady")
        wait_for(
            lambda: place.service.run(low).path.joinpath("worker.out").exists() and place.is_said(low, "ready"), 20
        )
        high = place.submit("finish", service={"priority": 10})
        place.wait(high, State.SUCCEEDED)
        assert EventKind.PREEMPTED in place.kinds(low)
        assert place.is_said(low, "saved")
        wait_for(lambda: place.job(low).attempts == 2)
        place.store.jobs.request_stop(low, Reason.CANCEL_REQUESTED, "enough", time.time())
        place.service.bell.ring()
        place.wait(low, State.CANCELLED)


def test_a_limit_warns_then_holds_and_is_to_be_raised_first(tmp_path: Path, backend: LocalBackend) -> None:
    from steep.spec.errors import Conflict

    with serving(tmp_path, {"local": backend}, loops=True, patience=PATIENT) as house, house.client() as client:
        place = Place(house)
        job = place.submit("steady", service={"limits": {"time": 3}})
        place.process(job)
        limits = LimitsLoop(place.service)

        def told(kind: EventKind) -> Callable[[], bool]:
            def look() -> bool:
                limits.turn()
                return kind in place.kinds(job)

            return look

        wait_for(told(EventKind.LIMIT_WARNED), 20)
        assert place.job(job).standing.state is not State.QUEUED
        wait_for(told(EventKind.LIMIT_REACHED), 20)
        place.wait(job, State.QUEUED, Reason.HELD_BY_LIMIT)
        assert place.is_said(job, "saved")
        with pytest.raises(Conflict, match="one of its limits"):
            client.jobs.resume(job)
        client.jobs.change(job, limits=Limits(time=1000.0))
        client.jobs.resume(job)
        wait_for(lambda: place.job(job).attempts == 2)
        client.jobs.cancel(job)
        place.wait(job, State.CANCELLED)
        assert place.store.jobs.get(job, time.time()).limits == JobChange(limits=Limits(time=1000.0)).limits


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database that has the tables."""
    if request.param == "postgresql" and (why := why_no_postgresql()):
        pytest.skip(why)
    with (sqlite_databases if request.param == "sqlite" else postgresql_databases)() as databases:
        yield databases.new()


def test_replicas_share_the_work_and_none_is_done_twice(tmp_path: Path, database: str) -> None:
    with ExitStack() as both:
        replicas: dict[str, tuple[Serving, ExitStack]] = {}
        for _ in range(2):
            stack = both.enter_context(ExitStack())
            backend = stack.enter_context(LocalBackend(tmp_path, cpu_slots=3, warm=False, program=COLD))
            house = stack.enter_context(
                serving(tmp_path, {"local": backend}, loops=True, patience=PATIENT, database=database)
            )
            replicas[house.service.replica] = (house, stack)
        place = Place(next(iter(replicas.values()))[0])
        jobs = [place.submit("finish", seconds=0.2) for _ in range(6)]
        wait_for(lambda: place.job(jobs[0]).attempts == 1)
        acting = place.store.loops.holder("scheduler", time.time())
        assert acting is not None
        replicas.pop(acting)[1].close()
        (left, _), *others = replicas.values()
        assert others == []
        place = Place(left)
        for job in jobs:
            assert place.wait(job, State.SUCCEEDED, seconds=60).attempts == 1
        wait_for(lambda: place.store.loops.holder("scheduler", time.time()) == left.service.replica)


def test_a_loop_rests_in_proportion_to_its_turns_however_often_it_is_rung_for(tmp_path: Path) -> None:
    turns: list[float] = []

    def turn() -> None:
        turns.append(time.monotonic())
        time.sleep(0.05)

    with serving(tmp_path) as house:
        bell = Bell()
        loop = Loop("resting", house.service, turn, every_seconds=10.0, bell=bell, rest=4.0)
        loop.start()
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            bell.ring()
            time.sleep(0.01)
        loop.end()
        loop.join()
    assert len(turns) >= 2, "and it hears the bell afterwards"
    assert all(later - earlier >= 5 * 0.05 for earlier, later in pairwise(turns))
