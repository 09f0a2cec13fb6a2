"""Killed at any moment, stopped, started twice, out of disk: the same command goes on, and ends with the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import STEEP, Steep, reports

MakeJob = Callable[..., Path]
pytestmark = pytest.mark.slow


def worker(run: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """A worker, as a service would start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "steep.worker", run],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.002)


def num_steps(run: Path) -> int:
    return sum(report["kind"] == "step" for report in reports(run))


def weights(run: Path) -> dict[str, str]:
    """Hashes of the last checkpoint's files, as its manifest has them."""
    newest = max((run / "checkpoints").glob("step-*/manifest.json"))
    files = json.loads(newest.read_text())["files"]
    assert newest.parent.name == "step-00000024"
    return {name: record["blake3"] for name, record in files.items() if name.endswith(".safetensors")}


@pytest.fixture
def assessed(steep: Steep, make_job: MakeJob, tmp_path: Path) -> Path:
    """A run directory whose training has not begun."""
    done = steep("run", make_job(), "--dir", "whole", "--until", "assess")
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    return tmp_path


def test_killed_at_any_moment_it_ends_with_the_same_weights(assessed: Path, environment: dict[str, str]) -> None:
    whole, parts = assessed / "whole", assessed / "parts"
    process = worker(whole, environment)
    process.communicate(timeout=200)
    assert process.returncode == 0
    chance = random.Random(17)
    killed = 0
    for target in (2, 9, 17, 23):
        process = worker(parts, environment)
        wait_for(lambda target=target: num_steps(parts) >= target, process)  # type: ignore[misc]
        time.sleep(chance.random() * 0.05)
        killed += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = worker(parts, environment)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert killed >= 3
    assert weights(parts) == weights(whole)
    exports = [(run / "export" / "model.safetensors").read_bytes() for run in (whole, parts)]
    assert exports[0] == exports[1]


def test_a_signal_saves_a_checkpoint_and_exits_with_3(assessed: Path, environment: dict[str, str]) -> None:
    run = assessed / "whole"
    process = subprocess.Popen(
        [STEEP, "run", run / "job.yaml", "--dir", run],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(lambda: num_steps(run) >= 3, process)
    other = subprocess.run(
        [STEEP, "run", run / "job.yaml", "--dir", run],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 3, said
    assert "Traceback" not in said
    assert other.returncode == 2
    assert "is working here" in other.stdout + other.stderr
    last = max(report["step"] for report in reports(run) if report["kind"] == "step")
    assert (run / "checkpoints" / f"step-{last:08d}" / "manifest.json").exists()


def test_a_deadline_saves_a_checkpoint_and_exits_with_3(steep: Steep, make_job: MakeJob, tmp_path: Path) -> None:
    """It counts from the command on, so the same command goes on for as long again."""
    long = {"training__budget": "20000 steps", "training__global_batch_tokens": 4096}
    assert steep("run", make_job(**long), "--dir", "run", "--until", "assess").returncode == 0
    job, run = make_job(**long, deadline="8 s"), tmp_path / "run"
    reached = [0]
    for _ in range(6):  # a machine with much else to do needs most of the time to begin
        done = steep("run", job, "--dir", run)
        assert done.returncode == 3, done.stdout + done.stderr
        assert "the job's deadline has passed" in " ".join(done.stderr.split())
        if (last := num_steps(run)) > reached[-1]:
            assert reached == [0] or f"going on from step {reached[-1]} " in done.stdout
            assert (run / "checkpoints" / f"step-{last:08d}" / "manifest.json").exists()
            reached.append(last)
        if len(reached) == 3:
            break
    assert len(reached) == 3
    assert [each["step"] for each in reports(run) if each["kind"] == "step"] == list(range(1, reached[-1] + 1))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    where = tmp_path / "small disk"
    where.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=14m", "tmpfs", where], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


def test_a_disk_that_fills_up_pauses_the_run(
    assessed: Path, small_disk: Path, environment: dict[str, str], steep: Steep
) -> None:
    run = small_disk / "run"
    shutil.copytree(assessed / "whole", run)
    process = worker(run, environment)
    wait_for(lambda: num_steps(run) >= 7, process)
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 65536)
        except OSError:
            pass  # full
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 3, said
    assert "the disk is full" in said
    assert steep("checkpoints", "verify", run).returncode == 0
    filler.unlink()
    process = worker(run, environment)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    process = worker(assessed / "whole", environment)
    process.communicate(timeout=200)
    assert weights(run) == weights(assessed / "whole")
