"""What is said of a worker when its keeper, its records or its machine are not what they were."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.artifacts.disks import fill, small_disk
from tests.contract.backends import Harness, Worker, eventually, lives
from tests.contract.local_backend import make_harness

from steep.compute.contract import WorkerStatus
from steep.compute.local import watching
from steep.compute.local.backend import LocalBackend
from steep.compute.local.devices import is_of_worker
from steep.compute.local.processes import belonging, here, is_alive, process, this_process
from steep.compute.local.records import AttemptRecords, Ended, Handle, Ordered, Started
from steep.spec.errors import InvalidInput, OutOfSpace, SteepError

__all__ = ["small_disk"]


def records_of(worker: Worker) -> AttemptRecords:
    return AttemptRecords(Handle.parse(worker.handle))


def change(records: AttemptRecords, name: str, **values: Any) -> None:
    """Change a record as nobody does."""
    path = records.directory / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def kill_keeper(worker: Worker) -> None:
    started = records_of(worker).started()
    assert started is not None
    os.kill(started.keeper.pid, signal.SIGKILL)
    eventually(lambda: not is_alive(started.keeper), "the keeper to be gone")


@pytest.fixture
def waiting(tmp_path: Path, harness: Harness) -> AttemptRecords:
    """An attempt that was asked for by a server that died before it began it."""
    order = harness.order("steady")
    records = AttemptRecords(Handle(order.job_id, order.attempt, order.run_directory.resolve()))
    records.claim(Ordered(order.job_id, order.devices, here(), time.monotonic()))
    return records


# ------------------------------------------------------------------------------------------------------ without keeper


def test_a_worker_lives_on_without_its_keeper_and_ends_when_asked(harness: Harness) -> None:
    worker = harness.start("steady")
    worker.said("ready")
    kill_keeper(worker)
    assert worker.status().phase == "running"
    worker.cancel(grace_seconds=300)
    assert worker.ended().phase == "gone"
    assert worker.said("saved")


def test_one_that_hangs_without_a_keeper_is_ended_with_its_family(harness: Harness) -> None:
    worker = harness.start("family", deaf=True)
    children = worker.said("children")
    os.kill(worker.pid, signal.SIGSTOP)
    kill_keeper(worker)
    worker.cancel(grace_seconds=0.2)
    assert worker.ended().phase == "gone"
    assert [child for child in children if lives(child)] == []


def test_what_a_worker_without_a_keeper_leaves_is_found_and_ended(harness: Harness) -> None:
    worker = harness.start("family", deaf=True)
    children = worker.said("children")
    kill_keeper(worker)
    os.kill(worker.pid, signal.SIGKILL)
    eventually(lambda: not lives(worker.pid), "the worker to be gone")
    first = worker.status()
    assert first.phase == "running", "children live, so it is not over"
    assert str(children[0]) in first.detail
    assert worker.ended().phase == "gone"
    assert [child for child in children if lives(child)] == []


def test_a_request_that_its_keeper_did_not_live_to_carry_out(harness: Harness) -> None:
    worker = harness.start("hang")
    worker.said("ready")
    records_of(worker).cancel(time.monotonic() + 0.2)  # written down; the keeper was not told
    kill_keeper(worker)
    time.sleep(0.3)
    assert worker.ended().phase == "gone"


def test_a_keeper_that_was_not_told_looks_by_itself(harness: Harness) -> None:
    worker = harness.start("steady")
    worker.said("ready")
    records_of(worker).cancel(time.monotonic() + 300)
    assert worker.ended().exit_code == 3


def test_all_processes_of_a_worker_are_known_as_its_own(harness: Harness) -> None:
    worker = harness.start("family")
    for pid in (worker.pid, *worker.said("children")):
        assert is_of_worker(pid, worker.handle)
    assert not is_of_worker(os.getpid(), worker.handle)


# ------------------------------------------------------------------------------------------------------------- records


def test_a_number_that_means_another_process_now_is_gone_and_is_left_alone(waiting: AttemptRecords) -> None:
    oneself = this_process()
    stranger = replace(oneself, started=oneself.started - 1)  # this test's number, from an earlier life
    waiting.start(Started(keeper=stranger, worker=oneself))
    assert watching.status_of(waiting.handle).phase == "running"
    waiting.start(Started(keeper=stranger, worker=stranger))
    assert watching.status_of(waiting.handle).phase == "gone"
    watching.cancel(waiting.handle, grace_seconds=0)  # would end this test
    assert watching.status_of(waiting.handle).phase == "gone"


def test_a_machine_that_started_again_has_none_of_its_workers(harness: Harness) -> None:
    worker = harness.start("steady")
    place = json.loads((records_of(worker).directory / "order.json").read_text())["place"]
    change(records_of(worker), "order.json", place={**place, "boot": "another"})
    assert worker.status() == WorkerStatus("gone", detail="The machine was started again since.")
    change(records_of(worker), "order.json", place={**place, "boot": "another", "machine": "elsewhere"})
    status = worker.status()
    assert status.phase == "unknown", "it may well run there"
    assert "elsewhere" in status.detail
    change(records_of(worker), "order.json", place=place)
    assert worker.status().phase == "running"


def test_in_another_container_only_the_lock_tells(harness: Harness) -> None:
    worker = harness.start("steady")
    place = json.loads((records_of(worker).directory / "order.json").read_text())["place"]
    change(records_of(worker), "order.json", place={**place, "numbers": "pid:[1]", "machine": "elsewhere"})
    assert worker.status().phase == "running"
    worker.cancel(grace_seconds=300)  # cannot signal it; its keeper looks by itself
    assert worker.ended().exit_code == 3
    (records_of(worker).directory / "exit.json").unlink()
    eventually(lambda: worker.status().phase == "gone", "the lock to be free")


def test_a_damaged_record_is_unknown(harness: Harness) -> None:
    worker = harness.start("steady")
    path = records_of(worker).directory / "started.json"
    whole = path.read_bytes()
    for damaged in (b"", b"{", b"[]", b'{"keeper": 1}'):
        path.write_bytes(damaged)
        assert worker.status().phase == "unknown", damaged
    path.write_bytes(whole)
    assert worker.status().phase == "running"


def test_a_run_that_was_deleted_under_its_worker_is_not_over(harness: Harness) -> None:
    worker = harness.start("steady")
    pid = worker.pid
    shutil.rmtree(harness.runs / "job")
    status = worker.status()
    assert status.phase == "running"
    assert str(pid) in status.detail
    worker.cancel(grace_seconds=300)
    assert worker.ended().phase == "gone"
    assert not (harness.runs / "job").exists(), "nobody makes it again"
    shutil.rmtree(harness.runs)
    assert worker.status().phase == "unknown", "nothing is there: a disk may be missing"
    harness.runs.mkdir()


# ----------------------------------------------------------------------------------------------------- before the start


def test_one_that_is_cancelled_before_it_begins_never_begins(harness: Harness, waiting: AttemptRecords) -> None:
    handle = str(waiting.handle)
    assert harness.backend.status(handle).phase == "starting"
    harness.backend.cancel(handle, grace_seconds=300)
    status = harness.backend.status(handle)
    assert (status.phase, status.detail) == ("gone", "It was cancelled before it began.")
    assert harness.submit(harness.order("steady")) == handle
    assert waiting.started() is None
    assert harness.backend.status(handle) == status


def test_a_keeper_that_comes_after_the_request_to_end_starts_nothing(harness: Harness, waiting: AttemptRecords) -> None:
    harness.backend.cancel(str(waiting.handle), grace_seconds=300)
    harness.submit(harness.order("steady"))  # nobody has asked for its state meanwhile
    assert waiting.ended() == Ended(None, "It was cancelled before it began.")
    assert waiting.started() is None


def test_one_that_nobody_begins_is_gone_and_stays_so(
    harness: Harness, waiting: AttemptRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "START_SECONDS", 0.0)
    assert harness.backend.status(str(waiting.handle)).phase == "gone"
    harness.submit(harness.order("steady"))
    assert waiting.started() is None


def test_one_that_a_dead_server_asked_for_is_begun_by_the_next(harness: Harness, waiting: AttemptRecords) -> None:
    worker = Worker(harness.backend, harness.submit(harness.order("steady")))
    assert worker.handle == str(waiting.handle)
    worker.said("ready")
    assert waiting.started() is not None


def test_a_worker_that_cannot_be_written_down_does_not_begin(short_path: Path, harness: Harness) -> None:
    """The keeper fails after it has forked the worker: a limit on files lets it write all but that record."""
    harness.runs = short_path
    order = harness.order("steady")
    records = AttemptRecords(Handle(order.job_id, order.attempt, order.run_directory.resolve()))
    records.claim(Ordered(order.job_id, order.devices, here(), time.monotonic()))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, before[1]))
    try:
        with pytest.raises(SteepError, match="could not start"):
            harness.submit(order)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(records.alive.read_bytes()) > 0, "it came as far as that"
    assert records.started() is None
    eventually(lambda: not belonging(None, str(records.handle), records.alive), "nothing to be left")
    assert harness.backend.logs(str(records.handle), "stdout", 0) == b""


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


# ------------------------------------------------------------------------------------------------------------ refusals


def test_a_device_in_use_is_not_lent_twice(harness: Harness) -> None:
    first = harness.start("steady", job="one")
    with pytest.raises(SteepError, match="cpu-0: is in use by another worker") as told:
        harness.submit(harness.order("steady", job="two"))
    assert "one/1" not in str(told.value), "it may be another project's"
    first.cancel(grace_seconds=60)
    first.ended()
    second = harness.submit(harness.order("steady", job="three"))
    assert Worker(harness.backend, second).said("ready")


def test_a_device_is_in_use_for_as_long_as_any_child_of_a_worker_lives(harness: Harness) -> None:
    worker = harness.start("family", job="one", deaf=True)
    children = worker.said("children")
    kill_keeper(worker)
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(SteepError, match="is in use"):
        harness.submit(harness.order("steady", job="two"))
    assert lives(children[0])


def test_what_cannot_be_ordered_is_refused(harness: Harness) -> None:
    good = harness.order("finish")
    with pytest.raises(InvalidInput, match="no such device"):
        harness.backend.submit(replace(good, devices=("GPU-none",)))
    with pytest.raises(InvalidInput, match="no such run directory"):
        harness.backend.submit(replace(good, run_directory=harness.runs / "none"))
    with pytest.raises(InvalidInput, match="contains an @"):
        harness.backend.submit(replace(good, job_id="a@b"))
    harness.start("finish").ended()
    with pytest.raises(InvalidInput, match="is that of job job"):
        harness.backend.submit(replace(good, job_id="another"))


def test_a_full_disk_refuses_a_worker_and_says_so(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = make_harness(small_disk, LocalBackend(small_disk, warm=False))
    order = harness.order("finish")
    fill(small_disk)
    with pytest.raises(OutOfSpace):
        harness.backend.submit(order)


def test_no_number_is_taken_for_a_process_that_has_ended() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    eventually(lambda: process(child) is None, "the child to end")  # it was not waited for, so its number is taken
    os.waitpid(child, 0)
