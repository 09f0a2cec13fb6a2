"""Warm start: a forked worker is what a new program is; where it cannot be, a new program is what is started."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.contract.backends import REPOSITORY, Harness, Worker, eventually, lives
from tests.contract.local_backend import COLD, WARM, make_harness

from steep.compute.contract import LONGEST_SUBMIT_SECONDS
from steep.compute.local import starting
from steep.compute.local.backend import LocalBackend
from steep.compute.local.environment import too_late_for
from steep.compute.local.starting import Program, WarmProcess

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="warm start is for Linux")
MakeWarm = Callable[..., Harness]


@pytest.fixture
def make_warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWarm]:
    """Makes a backend with a warm process that imports so, as soon as it is ready."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    made = []

    def make(preload: str = "preload") -> Harness:
        program = Program(WARM.module, f"tests.contract.little_preload:{preload}")
        backend = LocalBackend(tmp_path, cpu_slots=4, program=program)
        made.append(make_harness(tmp_path, backend))
        return made[-1]

    yield make
    for harness in made:
        harness.end_all()
        harness.backend.close()  # type: ignore[attr-defined]


def ready(harness: Harness) -> Harness:
    assert isinstance(harness.backend, LocalBackend)
    eventually(harness.backend.is_warm, "the warm process")
    return harness


def warm_process() -> psutil.Process:
    """The warm process of this test."""
    (found,) = [one for one in psutil.Process().children() if one.name() == "steep-warm"]
    return found


def is_forked(worker: Worker) -> bool:
    """Whether a worker was forked: then its keeper is the warm process's child, and its command line is that one's."""
    return "steep.compute.local.forkserver" in psutil.Process(worker.pid).cmdline()


def test_a_forked_worker_sees_what_a_new_one_sees(make_warm: MakeWarm, tmp_path: Path) -> None:
    warm = ready(make_warm())
    cold = make_harness(tmp_path, LocalBackend(tmp_path, cpu_slots=4, warm=False, program=COLD))
    seen: list[list[dict[str, Any]]] = []
    for harness in (warm, cold):
        worker = harness.start("look_around")
        assert worker.ended().exit_code == 0, worker.backend.logs(worker.handle, "stderr", 0).decode()
        words = worker.words()
        for word in ("pid", "session", "group"):
            words[0].pop(word)
        seen.append(words)
        (harness.runs / "job").rename(harness.runs / f"job {len(seen)}")
    assert seen[0] == seen[1]
    assert seen[0][1]["module"] == COLD.module
    assert seen[0][1]["threads"] == 1


def test_workers_are_forked_when_the_warm_process_is_ready(make_warm: MakeWarm) -> None:
    harness = make_warm()
    early = harness.start("steady", job="early", device=0)  # does not wait for the imports
    ready(harness)
    late = harness.start("steady", job="late", device=1)
    assert is_forked(late)
    warm_process().kill()
    eventually(lambda: not harness.backend.is_warm(), "the warm process to be gone")  # type: ignore[attr-defined]
    assert [worker.status().phase for worker in (early, late)] == ["running", "running"]
    late.cancel(grace_seconds=60)
    assert late.ended().exit_code == 3, "its keeper outlives the warm process"


def test_a_warm_process_that_dies_is_begun_again(tmp_path: Path) -> None:
    before = set(psutil.Process().children())  # other tests' servers may live on
    warm = WarmProcess("json:JSONDecoder", lambda: dict(os.environ), tmp_path / "warm.log", anew_seconds=0)
    try:
        warm.begin()
        eventually(warm.is_ready, "the warm process")
        warm_process().kill()
        eventually(lambda: not warm.is_ready(), "its end")
        warm.begin()
        eventually(warm.is_ready, "the next one")
    finally:
        warm.close()
    warm.begin()  # a scheduler may still ask for the capacity while the server ends
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize(
    ("preload", "reason"), [("begin_a_thread", "importing has started threads"), ("fail", "ended")]
)
def test_where_a_fork_would_not_be_the_same_a_new_program_is_started(
    make_warm: MakeWarm, caplog: pytest.LogCaptureFixture, preload: str, reason: str
) -> None:
    caplog.set_level(logging.INFO)
    harness = make_warm(preload)
    assert isinstance(harness.backend, LocalBackend)
    eventually(lambda: harness.backend.is_warm() or reason in caplog.text, "the reason")  # type: ignore[attr-defined]
    assert not harness.backend.is_warm()
    worker = harness.start("steady")
    assert not is_forked(worker)
    (said,) = [line for line in caplog.messages if line.startswith(f"{worker.handle} is started as a new program: ")]
    assert reason in said


def test_a_variable_that_imports_may_read_makes_a_new_program(
    make_warm: MakeWarm, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    harness = ready(make_warm())
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    worker = harness.start("steady", job="one", device=0)
    assert not is_forked(worker)
    assert worker.words()[0]["environment"]["MALLOC_ARENA_MAX"] == "1"
    assert "MALLOC_ARENA_MAX is not what it was when libraries were imported" in caplog.text
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    assert is_forked(harness.start("steady", job="two", device=1))


def test_late_variables_are_those_that_are_read_when_used() -> None:
    base = {"PATH": "/bin", "OMP_NUM_THREADS": "2", "STEEP_CACHE": "/a"}
    assert (
        too_late_for(base, {**base, "CUDA_VISIBLE_DEVICES": "GPU-1", "STEEP_ATTEMPT": "job/1", "HF_TOKEN": "x"}) is None
    )
    assert too_late_for(base, {**base, "OMP_NUM_THREADS": "1"}) == "OMP_NUM_THREADS"
    assert too_late_for(base, {"OMP_NUM_THREADS": "2"}) == "PATH"
    assert too_late_for(base, {**base, "PYTORCH_CUDA_ALLOC_CONF": "x"}) == "PYTORCH_CUDA_ALLOC_CONF"


def test_the_warm_process_ends_with_the_server(harness: Harness, tmp_path: Path) -> None:
    code = harness.recipe.replace("warm=False", "warm=True").replace(repr(COLD), repr(WARM))
    code += "\nimport time, psutil\nwhile not backend.is_warm(): time.sleep(0.01)\n"
    code += "print(*[one.pid for one in psutil.Process().children()], flush=True)\ntime.sleep(600)"
    prelude = "from pathlib import Path\n"
    with subprocess.Popen([sys.executable, "-c", prelude + code], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        assert lives(pid)
        os.kill(server.pid, signal.SIGKILL)
    began = time.monotonic()
    eventually(lambda: not lives(pid), "the warm process to end")
    assert time.monotonic() - began < 5


def test_a_start_is_over_as_soon_as_the_contract_says() -> None:
    assert starting.WARM_ANSWER_SECONDS + starting.COLD_ANSWER_SECONDS < LONGEST_SUBMIT_SECONDS
