"""The conformance suite of backends: what each of them has to do, with real processes and no more than the contract.

A backend's own test file makes a `Harness`, offers it as the fixture `harness`, and inherits from `BackendSuite`. The suite
runs `little_worker.py` in place of the engine. It reads what that says through the backend, and looks for its processes on
this machine, so a backend under test has to place them here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from steep.compute.contract import LONGEST_LOG_BYTES, Backend, Order, Stream, WorkerStatus

PATIENCE_SECONDS = 60.0
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Harness:
    """A backend under test, and what the suite cannot do to it through the contract.

    Args:
        backend: the object under test.
        recipe: Python code that makes another `backend` like it, as a server does that is started again.
        runs: where run directories are made.
        lose_contact: while the block runs, what became of a worker cannot be told.
    """

    backend: Backend
    recipe: str
    runs: Path
    lose_contact: Callable[[str], AbstractContextManager[None]]
    handles: set[str] = field(default_factory=set)

    def order(
        self, behaviour: str, *, job: str = "job", attempt: int = 1, device: int | None = 0, **settings: Any
    ) -> Order:
        """An order for a worker that behaves so, on one of the devices."""
        run = self.runs / job
        run.mkdir(parents=True, exist_ok=True)
        (run / "job.yaml").write_text(json.dumps({"behaviour": behaviour, **settings}))
        devices = () if device is None else (self.backend.capacity().devices[device].device.id,)
        return Order(job, attempt, run, devices, {"STEEP_ATTEMPT_TOKEN": "a secret"})

    def submit(self, order: Order) -> str:
        """Submit it, and end what is left of it after the test."""
        handle = self.backend.submit(order)
        self.handles.add(handle)
        return handle

    def start(self, behaviour: str, **settings: Any) -> Worker:
        """A worker that has said its first words."""
        worker = Worker(self.backend, self.submit(self.order(behaviour, **settings)))
        worker.said("pid")
        return worker

    def elsewhere(self, code: str, order: Order) -> subprocess.Popen[str]:
        """Run code in another process, which has its own `backend` and this `order`."""
        values = repr((order.job_id, order.attempt, str(order.run_directory), order.devices, dict(order.environment)))
        prelude = (
            "import os, signal, time\nfrom pathlib import Path\nfrom steep.compute.contract import Order\n"
            f"{self.recipe}\njob, attempt, run, devices, environment = {values}\n"
            "order = Order(job, attempt, Path(run), devices, environment)\n"
        )
        return subprocess.Popen([sys.executable, "-c", prelude + code], stdout=subprocess.PIPE, text=True)

    def end_all(self) -> None:
        """End every worker of the test, and see that they are gone."""
        for handle in self.handles:
            self.backend.cancel(handle, grace_seconds=0)
        for handle in self.handles:
            eventually(lambda handle=handle: self.backend.status(handle).is_over, f"{handle} to be gone")


@dataclass(frozen=True)
class Worker:
    """A worker as it is seen through a backend."""

    backend: Backend
    handle: str

    def status(self) -> WorkerStatus:
        return self.backend.status(self.handle)

    def words(self) -> list[dict[str, Any]]:
        """What it has said, line by line."""
        whole = self.backend.logs(self.handle, "stdout", 0).rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def said(self, key: str) -> Any:
        """What it says by this name; waits for it."""
        return eventually(
            lambda: next((words[key] for words in self.words() if key in words), None), f"{key!r} to be said"
        )

    @property
    def pid(self) -> int:
        pid: int = self.said("pid")
        return pid

    def ended(self) -> WorkerStatus:
        """How it ended; waits for that."""
        eventually(lambda: self.status().is_over, "the worker to be over")
        return self.status()

    def cancel(self, grace_seconds: float) -> None:
        self.backend.cancel(self.handle, grace_seconds=grace_seconds)


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Wait until something is so; returns it."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.02)
    return found


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class BackendSuite:
    """Every backend passes these."""

    @pytest.fixture(autouse=True)
    def _nothing_is_left(self, harness: Harness) -> Iterator[None]:
        yield
        harness.end_all()

    # -------------------------------------------------------------------------------------------------------- lives

    def test_devices_keep_their_ids(self, harness: Harness) -> None:
        devices = [state.device for state in harness.backend.capacity().devices]
        assert len({device.id for device in devices}) == len(devices) >= 2
        assert devices == [state.device for state in harness.backend.capacity().devices]
        assert all(device.memory_bytes > 0 and device.model for device in devices)

    def test_a_worker_works_and_finishes(self, harness: Harness) -> None:
        worker = harness.start("finish", seconds=0.5)
        assert worker.status().phase in ("starting", "running")
        assert worker.ended() == WorkerStatus("ended", exit_code=0, detail=worker.status().detail)
        first, last = worker.words()
        assert first["arguments"] == [str(harness.runs / "job")]
        assert last == {"done": True}
        assert worker.backend.logs(worker.handle, "stderr", 0) == b"a word of warning\n"

    def test_it_begins_as_a_program_of_its_own(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STEEP_DATABASE_PASSWORD", "the server's own")
        monkeypatch.setenv("STEEP_CACHE", "/a/cache")
        monkeypatch.setenv("PGPASSWORD", "the database's")
        worker = harness.start("finish")
        first = worker.words()[0]
        assert first["session"] == first["group"] == first["pid"] != os.getsid(0)
        assert first["input"] == ""
        assert first["directory"] == str(harness.runs / "job")
        assert first["environment"]["STEEP_ATTEMPT_TOKEN"] == "a secret"
        assert first["environment"]["STEEP_CACHE"] == "/a/cache"
        assert not {"STEEP_DATABASE_PASSWORD", "PGPASSWORD"} & first["environment"].keys()

    def test_a_crash_ends_with_its_code(self, harness: Harness) -> None:
        worker = harness.start("crash")
        assert (worker.ended().phase, worker.status().exit_code) == ("ended", 1)
        assert b"the loss became NaN" in worker.backend.logs(worker.handle, "stderr", 0)

    def test_a_kill_is_an_end_by_signal(self, harness: Harness) -> None:
        worker = harness.start("steady")
        os.kill(worker.pid, signal.SIGKILL)
        assert (worker.ended().phase, worker.status().exit_code) == ("ended", -signal.SIGKILL)

    def test_the_next_attempt_writes_on(self, harness: Harness) -> None:
        first = harness.start("finish", code=3)
        first.ended()
        end = len(first.backend.logs(first.handle, "stdout", 0))
        second = Worker(harness.backend, harness.submit(harness.order("finish", attempt=2)))
        assert second.ended().exit_code == 0
        assert first.status().exit_code == 3
        assert second.handle != first.handle
        assert json.loads(second.backend.logs(second.handle, "stdout", end).splitlines()[0])["pid"] != first.pid

    # ------------------------------------------------------------------------------------------------------- ending

    def test_asked_to_end_it_saves_first(self, harness: Harness) -> None:
        worker = harness.start("steady")
        worker.said("ready")
        worker.cancel(grace_seconds=300)
        assert worker.ended().exit_code == 3
        assert worker.said("saved")

    def test_one_that_hangs_is_ended_after_the_grace(self, harness: Harness) -> None:
        worker = harness.start("hang")
        worker.said("ready")
        asked = time.monotonic()
        worker.cancel(grace_seconds=600)
        assert time.monotonic() - asked < 2, "cancel waits"
        time.sleep(0.3)
        assert worker.status().phase == "running"
        worker.cancel(grace_seconds=0.1)
        assert worker.ended().exit_code == -signal.SIGKILL

    def test_one_that_is_stopped_is_ended_too(self, harness: Harness) -> None:
        worker = harness.start("steady")
        os.kill(worker.pid, signal.SIGSTOP)
        assert worker.status().phase == "running"
        worker.cancel(grace_seconds=0.1)
        assert worker.ended().exit_code == -signal.SIGKILL

    def test_cancelled_before_it_begins_it_leaves_nothing(self, harness: Harness) -> None:
        order = harness.order("steady")
        worker = Worker(harness.backend, harness.submit(order))
        worker.cancel(grace_seconds=0)
        worker.ended()
        assert harness.submit(order) == worker.handle
        assert worker.status().is_over
        assert all(not lives(words["pid"]) for words in worker.words() if "pid" in words)

    @pytest.mark.parametrize("way", ["killed", "ended by itself", "cancelled"])
    def test_no_child_of_a_worker_outlives_it(self, harness: Harness, way: str) -> None:
        worker = harness.start("family", stay=way != "ended by itself", deaf=way == "killed")
        children = worker.said("children")
        if way != "ended by itself":
            worker.said("ready")
            assert all(lives(child) for child in children)
        if way == "killed":
            os.kill(worker.pid, signal.SIGKILL)
        if way == "cancelled":
            worker.cancel(grace_seconds=60)
        assert worker.ended().exit_code == {"killed": -9, "ended by itself": 0, "cancelled": 3}[way]
        assert [child for child in children if lives(child)] == []

    # ------------------------------------------------------------------------------------------- out of sight, twice

    def test_lost_contact_is_not_an_end(self, harness: Harness) -> None:
        worker = harness.start("steady")
        with harness.lose_contact(worker.handle):
            status = worker.status()
            assert status.phase == "unknown"
            assert not status.is_over
            assert status.detail
        assert worker.status().phase == "running"

    def test_a_handle_that_means_nothing_is_gone(self, harness: Harness) -> None:
        worker = harness.start("finish")
        for handle in ("", "nonsense", worker.handle.replace("job", "other"), worker.handle.replace("1", "2", 1)):
            assert harness.backend.status(handle).phase == "gone", handle
            harness.backend.cancel(handle, grace_seconds=0)
            assert harness.backend.logs(handle, "stderr", 1 << 40) == b""
        worker.ended()

    def test_a_worker_outlives_the_server_and_is_found_again(self, harness: Harness) -> None:
        order = harness.order("steady")
        server = harness.elsewhere(
            "print(backend.submit(order), flush=True); os.kill(os.getpid(), signal.SIGKILL)", order
        )
        handle = server.communicate()[0].strip()
        assert server.returncode == -signal.SIGKILL
        worker = Worker(harness.backend, handle)
        harness.handles.add(handle)
        pid = worker.pid
        assert worker.status().phase == "running"
        assert harness.submit(order) == handle
        worker.cancel(grace_seconds=300)
        assert worker.ended().exit_code == 3
        assert [words["pid"] for words in worker.words() if "pid" in words] == [pid]

    def test_how_it_ended_is_known_though_no_server_was_there(self, harness: Harness) -> None:
        order = harness.order("finish", code=7, seconds=0.5)
        server = harness.elsewhere(
            "print(backend.submit(order), flush=True); os.kill(os.getpid(), signal.SIGKILL)", order
        )
        handle = server.communicate()[0].strip()
        harness.handles.add(handle)
        eventually(lambda: b"warning" in harness.backend.logs(handle, "stderr", 0), "its last word")
        assert Worker(harness.backend, handle).ended().exit_code == 7

    def test_a_request_to_end_outlives_the_server(self, harness: Harness) -> None:
        worker = harness.start("hang")
        worker.said("ready")
        code = f"backend.cancel({worker.handle!r}, grace_seconds=0.5); os.kill(os.getpid(), signal.SIGKILL)"
        harness.elsewhere(code, harness.order("hang")).communicate()
        assert worker.ended().exit_code == -signal.SIGKILL

    def test_submitted_by_many_threads_it_starts_once(self, harness: Harness) -> None:
        order = harness.order("steady")
        with ThreadPoolExecutor(8) as threads:
            handles = set(threads.map(lambda _: harness.submit(order), range(16)))
        self._is_one(harness, handles)

    def test_submitted_by_several_servers_it_starts_once(self, harness: Harness) -> None:
        order = harness.order("steady")
        go = harness.runs / "go"
        code = (
            f"print(flush=True)\nwhile not Path({str(go)!r}).exists(): pass\nprint(backend.submit(order), flush=True)"
        )
        servers = [harness.elsewhere(code, order) for _ in range(3)]
        for server in servers:
            assert server.stdout is not None
            assert server.stdout.readline() == "\n"
        go.touch()
        handles = {server.communicate()[0].strip() for server in servers}
        assert [server.returncode for server in servers] == [0, 0, 0]
        self._is_one(harness, handles)

    @staticmethod
    def _is_one(harness: Harness, handles: set[str]) -> None:
        harness.handles |= handles
        (handle,) = handles
        worker = Worker(harness.backend, handle)
        worker.said("ready")
        time.sleep(0.5)  # a second one would have said its first words by then
        assert len([words for words in worker.words() if "pid" in words]) == 1
        worker.cancel(grace_seconds=60)
        assert worker.ended().exit_code == 3

    # -------------------------------------------------------------------------------------------- devices and words

    def test_two_workers_get_different_devices(self, harness: Harness) -> None:
        one = harness.order("steady", job="one", device=0)
        two = harness.order("steady", job="two", device=1)
        workers = [Worker(harness.backend, harness.submit(order)) for order in (one, two)]
        environments: list[Mapping[str, str]] = [worker.said("environment") for worker in workers]
        assert [worker.status().phase for worker in workers] == ["running", "running"]
        self.devices_seen(environments[0], one.devices)
        self.devices_seen(environments[1], two.devices)

    def devices_seen(self, environment: Mapping[str, str], devices: tuple[str, ...]) -> None:
        """Assert that a worker with this environment sees these devices and no others."""
        raise NotImplementedError

    @pytest.mark.parametrize("stream", ["stdout", "stderr"])
    def test_logs_are_read_from_any_offset(self, harness: Harness, stream: Stream) -> None:
        worker = Worker(harness.backend, harness.submit(harness.order("chatter", lines=100_000)))
        worker.ended()
        whole = b""
        while part := worker.backend.logs(worker.handle, stream, len(whole)):
            assert len(part) <= LONGEST_LOG_BYTES
            whole += part
        if stream == "stderr":
            assert whole == b""
            return
        assert whole.splitlines()[1:] == [b"line %08d" % number for number in range(100_000)]
        assert worker.backend.logs(worker.handle, stream, 1000) == whole[1000 : 1000 + LONGEST_LOG_BYTES]
        assert worker.backend.logs(worker.handle, stream, len(whole) + 5) == b""
