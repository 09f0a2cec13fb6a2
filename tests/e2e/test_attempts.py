"""A job in several attempts, as a service has it done: paused, shut out, and taken over to the end without its server for a while."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.client.service import Service
from tests.e2e.conftest import Steep, reports
from tests.worker.ear import Ear, wait_for

MakeJob = Callable[..., Path]
pytestmark = pytest.mark.slow


@pytest.fixture
def ear() -> Iterator[Ear]:
    """A server that hears the workers of a job."""
    service = Service()
    made = Ear(service)
    made.lease_seconds = 3.0
    made.tokens = {number: f"token-of-attempt-{number}" for number in range(1, 9)}
    yield made
    service.stop()


@pytest.fixture
def start(ear: Ear, environment: dict[str, str]) -> Iterator[Callable[[Path, int], subprocess.Popen[bytes]]]:
    """Starts an attempt as a backend does: what it prints goes to the run directory's files."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(run: Path, number: int) -> subprocess.Popen[bytes]:
        ear.attempt, ear.service.token, ear.directive = number, ear.tokens[number], "none"
        variables = {
            "STEEP_SERVER": ear.service.address, "STEEP_ATTEMPT": f"job-0/{number}", "STEEP_ATTEMPT_TOKEN": ear.tokens[number],
        }  # fmt: skip
        with open(run / "worker.out", "ab") as out, open(run / "worker.err", "ab") as err:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-u", "-m", "steep.worker", run, "--until", "train"],
                    env={**environment, **variables}, stdout=out, stderr=err, start_new_session=True,
                )
            )  # fmt: skip
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def steps(run: Path) -> int:
    return max((report["step"] for report in reports(run) if report["kind"] == "step"), default=0)


def weights(run: Path) -> dict[str, str]:
    """Hashes of the last checkpoint's files."""
    manifest = json.loads((run / "checkpoints" / "step-00000024" / "manifest.json").read_text())
    return {name: one["blake3"] for name, one in manifest["files"].items() if name.endswith(".safetensors")}


def test_a_job_in_three_attempts(
    steep: Steep, make_job: MakeJob, tmp_path: Path, ear: Ear, start: Callable[[Path, int], subprocess.Popen[bytes]]
) -> None:
    # steps of a tenth of a second, so that the training lasts longer than an order takes to be heard
    job = make_job(evaluation__interpolate=[], training__precision="fp32", training__global_batch_tokens=4096)
    done = steep("run", job, "--dir", "whole", "--until", "train")
    assert done.returncode == 0, done.stdout + done.stderr
    whole, run = tmp_path / "whole", tmp_path / "parts"
    trained = shutil.ignore_patterns("checkpoints", "train.json", "checkpoint-*", "reports.jsonl")
    shutil.copytree(whole, run, ignore=trained)

    paused = start(run, 1)
    wait_for(lambda: steps(run) >= 2, 120)
    ear.directive = "pause"
    assert paused.wait(60) == 3
    assert (run / "checkpoints" / f"step-{steps(run):08d}" / "manifest.json").exists()

    fenced, begun = start(run, 2), steps(run)
    wait_for(lambda: steps(run) > begun, 120)
    ear.attempt = 3
    assert fenced.wait(30) == 3
    assert not (run / "error.json").exists()
    assert b"this attempt is over" in (run / "worker.err").read_bytes()

    last = start(run, 3)
    wait_for(lambda: len(ear.heard) > 0, 60)
    ear.service.stop()
    time.sleep(1.0)
    ear.service.start()
    assert last.wait(200) == 0, (run / "worker.err").read_text()

    assert weights(run) == weights(whole)
    assert [one["sequence"] for one in ear.reports] == list(range(len(ear.reports)))
    assert [{**one, "time": 0} for one in ear.reports] == [{**one, "time": 0} for one in reports(run)]
    assert ear.text["stderr"] == (run / "worker.err").read_text()
