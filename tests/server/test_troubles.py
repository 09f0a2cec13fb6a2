"""What goes wrong with one job or attempt, at its disk or its backend, and what the loops make of it for this one and for others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.contract.backends import REPOSITORY
from tests.contract.local_backend import COLD
from tests.server.placing import PATIENT, SOON, Place, begin_without_handle, is_gone
from tests.server.serving import serving, wait_for

from steep.compute.contract import LONGEST_SUBMIT_SECONDS, Order, WorkerStatus
from steep.compute.local.backend import LocalBackend
from steep.compute.local.processes import Place as Machine
from steep.compute.local.records import AttemptRecords, Handle, Ordered
from steep.server.loops.scheduler import Scheduler
from steep.server.loops.watcher import Watcher
from steep.spec.api.attempts import ReportsRequest
from steep.spec.errors import Conflict, Forbidden, InvalidInput, SteepError
from steep.spec.states import Reason, State


@pytest.fixture(autouse=True)
def _workers_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


class Troubled(LocalBackend):
    """It meets what it is told to, for one job."""

    job = ""
    error: Exception | None = None

    def submit(self, order: Order) -> str:
        if self.error is not None and order.job_id == self.job:
            raise self.error
        return super().submit(order)

    def status(self, handle: str) -> WorkerStatus:
        if self.error is not None and handle.startswith(self.job):
            raise self.error
        return super().status(handle)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Troubled]:
    with Troubled(tmp_path, cpu_slots=2, warm=False, program=COLD) as backend:
        yield backend


def test_an_attempt_that_cannot_be_submitted_for_now_holds_up_no_other_job_and_is_not_ended(
    tmp_path: Path, backend: Troubled
) -> None:
    with serving(tmp_path, {"local": backend}, patience=PATIENT) as house:
        place, scheduler = Place(house), Scheduler(house.service)
        jobs = [place.submit("finish", service={"priority": 10 - number}) for number in range(2)]
        backend.job, backend.error = jobs[0], OSError(12, "Cannot allocate memory")
        scheduler.turn()
        handles = {attempt.job_id: attempt.handle for attempt in place.store.attempts.living()}
        assert handles[jobs[0]] is None, "it may have begun"
        assert handles[jobs[1]] is not None
        backend.error = None
        house.service.now = lambda: time.time() + LONGEST_SUBMIT_SECONDS
        scheduler.turn()
        for job in jobs:
            watch_until_over(place, job)
            assert place.job(job).standing.state is State.SUCCEEDED
            assert place.job(job).attempts == 1


def test_an_attempt_that_was_left_and_cannot_be_mended_holds_up_no_other_job(tmp_path: Path, backend: Troubled) -> None:
    with serving(tmp_path, {"local": backend}, patience=PATIENT) as house:
        place = Place(house)
        backend.job, _, _ = begin_without_handle(place, backend, "finish", num_devices=1)
        backend.error = PermissionError(13, "Permission denied")
        other = place.submit("finish")
        Scheduler(place.service).turn()
        assert place.job(other).attempts == 1


def test_a_job_whose_directory_cannot_be_made_waits_and_says_why_and_others_get_its_devices(
    tmp_path: Path, backend: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, {"local": backend}, patience=PATIENT) as house:
        place = Place(house)
        scheduler = Scheduler(place.service)
        jobs = [place.submit("finish", service={"priority": 10 - number}) for number in range(3)]  # for two devices
        prepare = scheduler._prepare

        def fail(job_id: str) -> None:
            if job_id == jobs[0]:
                raise PermissionError(13, "Permission denied", "runs")
            prepare(job_id)

        monkeypatch.setattr(scheduler, "_prepare", fail)
        scheduler.turn()
        standing = place.job(jobs[0]).standing
        assert (standing.state, standing.reason) == (State.QUEUED, Reason.BACKING_OFF)
        assert "Permission denied" in standing.detail
        scheduler.turn()
        assert [place.job(job).attempts for job in jobs] == [0, 1, 1]
        ready = place.store.queue.heads(time.time() + 6).waiting
        assert [one.id for one in ready] == [jobs[0]], "and it is tried again"


def test_a_worker_that_cannot_be_looked_at_keeps_nobody_from_looking_at_others(
    tmp_path: Path, backend: Troubled
) -> None:
    with serving(tmp_path, {"local": backend}, patience=PATIENT) as house:
        place = Place(house)
        jobs = [place.submit("finish") for _ in range(2)]
        Scheduler(place.service).turn()
        backend.job = place.store.attempts.living()[0].job_id  # whoever is looked at first
        backend.error = OSError(5, "Input/output error")
        other = next(job for job in jobs if job != backend.job)

        def has_ended() -> bool:
            Watcher(place.service).turn()
            return place.job(other).standing.state is State.SUCCEEDED

        wait_for(has_ended, 20)


def test_a_start_that_another_replica_is_just_making_is_left_alone(tmp_path: Path, backend: Troubled) -> None:
    with serving(tmp_path, {"local": backend}, patience=PATIENT) as house:
        place = Place(house)
        job = place.submit("finish")
        begun = place.store.attempts.begin(job, "local", [], time.time(), lease_seconds=60)
        Scheduler(place.service).turn()
        assert place.store.attempts.living()[0].handle is None
        place.store.attempts.record_reports(job, 1, begun.token, ReportsRequest(), time.time(), lease_seconds=60)


@pytest.mark.parametrize(
    "error",
    [SteepError("the GPUs cannot be read"), InvalidInput("there is no such device here"), OSError(5, "I/O error")],
)
def test_a_worker_that_may_live_keeps_its_device_when_its_attempt_cannot_be_submitted_again(
    tmp_path: Path, backend: Troubled, error: Exception
) -> None:
    with serving(tmp_path, {"local": backend}, patience=PATIENT, policy=SOON) as house:
        place = Place(house)
        job, process = begin_unseen(place, backend)
        backend.job, backend.error = job, error
        scheduler = Scheduler(place.service)
        for _ in range(2):
            scheduler.turn()
            (attempt,) = place.store.attempts.living()
            assert attempt.revoked_at is not None
            assert place.service.run(job).fence.height() == 2
            assert [lease.job_id for lease in place.store.queue.leases()] == [job]
        backend.error = None
        scheduler.turn()
        watch_until_over(place, job)
        assert is_gone(process)
        assert place.store.queue.leases() == []


@pytest.mark.parametrize("why", ["its device is gone", "its record is damaged"])
def test_a_worker_that_has_begun_is_found_when(tmp_path: Path, backend: Troubled, why: str) -> None:
    with serving(tmp_path, {"local": backend}, patience=PATIENT) as house:
        place = Place(house)
        job, process = begin_unseen(place, backend)
    started = place.service.run(job).path / "attempts" / "1" / "started.json"
    record = started.read_bytes()
    if why == "its record is damaged":
        started.write_bytes(b"{")
    slots = 0 if why == "its device is gone" else 1
    with (
        LocalBackend(tmp_path, cpu_slots=slots, warm=False, program=COLD) as fewer,
        serving(tmp_path, {"local": fewer}, patience=PATIENT) as house,
    ):
        place = Place(house)
        Scheduler(place.service).turn()
        (attempt,) = place.store.attempts.living()
        assert attempt.handle is not None
        assert process.is_running()
        started.write_bytes(record)
        place.store.attempts.revoke(job, 1, "enough", time.time())
        watch_until_over(place, job)
        assert is_gone(process)


def begin_unseen(place: Place, backend: LocalBackend) -> tuple[str, psutil.Process]:
    """A worker that runs and was never heard of, whose handle nobody wrote down."""
    job, begun, devices = begin_without_handle(place, backend, "hang", num_devices=1)
    run = place.service.run(job).path
    backend.submit(Order(job, 1, run, (devices[0].id,), {"STEEP_ATTEMPT_TOKEN": begun.token}))
    return job, place.process(job)


def watch_until_over(place: Place, job: str) -> None:
    watcher = Watcher(place.service)

    def is_over() -> bool:
        watcher.turn()
        return all(attempt.job_id != job for attempt in place.store.attempts.living())

    wait_for(is_over, 30)


@pytest.mark.parametrize("asked", ["to go on", "to end"])
def test_a_worker_whose_machine_is_gone_can_be_declared_lost(tmp_path: Path, backend: Troubled, asked: str) -> None:
    with (
        serving(tmp_path, {"local": backend}, patience=PATIENT, policy=SOON) as house,
        house.client() as client,
        house.client("admin", "default") as ours,
        house.client("member") as member,
    ):
        place = Place(house)
        with pytest.raises(Conflict, match="it has no attempt now"):
            client.jobs.declare_lost(place.submit("finish", service={"held": True}))
        job, _, _ = begin_without_handle(place, backend, "steady")
        handle = str(Handle(job, 1, place.service.run(job).path))
        place.store.attempts.provisioned(job, 1, handle, time.time())
        if asked == "to end":
            client.jobs.cancel(job)
        with pytest.raises(Conflict, match="may still be heard of"):
            client.jobs.declare_lost(job)
        place.store.attempts.revoke(job, 1, "silent for too long", time.time())
        with pytest.raises(Conflict, match="it is gone"):
            client.jobs.declare_lost(job)
        elsewhere = Ordered(job, ("cpu-0",), Machine("a machine that is gone", "a boot", "numbers"), 0.0)
        AttemptRecords(Handle(job, 1, place.service.run(job).path)).claim(elsewhere)
        for stranger in (ours, member):
            with pytest.raises(Forbidden):
                stranger.jobs.declare_lost(job)
        assert [lease.job_id for lease in place.store.queue.leases()] == [job] * 2
        after = client.jobs.declare_lost(job)
        assert place.store.queue.leases() == []
        if asked == "to end":
            assert after.state == "cancelled"
        else:
            assert (after.view.standing.state, after.view.standing.reason) == (State.QUEUED, Reason.BACKING_OFF)
            assert "its machine is gone, says" in after.view.standing.detail
