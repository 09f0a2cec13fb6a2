"""What Steep promises, as a user has it: from raw text through a server, whatever is killed, to a model that others train on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import STEEP
from tests.server.serving import free_port, wait_for

from steep import Client
from steep.client.config import read_config
from steep.spec.events import EventKind

pytestmark = pytest.mark.slow
MakeJob = Callable[..., Path]
Call = Callable[..., str]
STEPS = 90


@pytest.fixture
def steep(tmp_path: Path, environment: dict[str, str]) -> Iterator[Call]:
    """Call `steep` as a user with a home of his own, and with a server that `steep up` started."""
    mine = {**environment, "XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_DATA_HOME": str(tmp_path / "data")}

    def call(*arguments: object, code: int = 0) -> str:
        done = subprocess.run(
            [STEEP, *map(str, arguments)],
            cwd=tmp_path, env=mine, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    call("up", "--detach", "--port", free_port(), "--root", tmp_path.parent, "--cpu-slots", 1)
    try:
        yield call
    finally:
        call("down")


@pytest.fixture
def client(steep: Call, tmp_path: Path) -> Iterator[Client]:
    settings = read_config(tmp_path / "config" / "steep" / "config.toml")
    assert settings is not None
    with Client(settings.server, settings.key) as client:
        yield client


def kill_worker(job: str, data: Path) -> None:
    os.kill(int((data / "runs" / job / "lock").read_text()), signal.SIGKILL)


def test_from_raw_text_to_a_model_that_trl_trains_on(
    steep: Call, client: Client, make_job: MakeJob, tmp_path: Path, place: Path
) -> None:
    # ---- submitted, and watched from the beginning
    file = make_job(
        "promises", training__budget=f"{STEPS} steps", training__global_batch_tokens=2048, checkpoints__every="15 steps",
        checkpoints__keep_last=10, evaluation__interpolate=[],
    )  # fmt: skip
    plan: dict[str, Any] = json.loads(steep("jobs", "submit", file, "--dry-run", "--json"))
    assert (plan["valid"], plan["tokens"], plan["steps"]) == (True, STEPS * 2048, STEPS)
    job: str = json.loads(steep("jobs", "submit", file, "--json"))["id"]

    def step() -> int:
        return client.jobs.detail(job).progress.step

    # ---- its worker is killed, and it goes on by itself
    wait_for(lambda: step() >= 18)
    kill_worker(job, tmp_path / "data" / "steep")
    wait_for(lambda: client.jobs.detail(job).attempts == 2)
    wait_for(lambda: any(event.kind is EventKind.RESUMED for event in client.jobs.events(job)))
    wait_for(lambda: step() >= 35)

    # ---- it is paused, goes back to a checkpoint, and comes to its end
    assert "stopping" in steep("jobs", "pause", job) or client.jobs.detail(job).standing.is_paused
    wait_for(lambda: client.jobs.detail(job).standing.is_paused)
    assert "paused by" in client.jobs.detail(job).standing.detail
    there = [one.step for one in client.checkpoints.list(job) if one.state != "deleted"]
    assert 15 in there
    assert max(there) >= 35
    steep("jobs", "rollback", job, "--to", 15)
    steep("jobs", "watch", job)

    # ---- every step was trained; from the ones that it went back to it trained anew
    trained = [one.step for one in client.jobs.reports(job, kind="step")]
    assert set(trained) == set(range(1, STEPS + 1))
    begins = [0, *(place for place, (one, after) in enumerate(pairwise(trained), 1) if after <= one)]
    assert [trained[place] for place in begins] == [1, 16, 16]

    # ---- the base and all checkpoints were measured on the same text, and one was selected by the rule
    results: dict[str, Any] = json.loads(steep("jobs", "results", job, "--json"))
    shown: dict[str, Any] = json.loads(steep("jobs", "show", job, "--json"))
    assert shown["standing"]["state"] == "succeeded"
    assert [one["exit_code"] for one in shown["attempt_list"]] == [-9, 3, 0]
    assert shown["outcome"]["gain"] > 0
    assert shown["outcome"]["forgetting"] is not None
    assert {score["step"] for score in results["scores"] if score["kind"] != "average"} >= {
        0,
        15,
        30,
        45,
        60,
        75,
        STEPS,
    }
    assert [one["step"] for one in results["scores"] if one["selected"]] == [shown["outcome"]["selected_step"]]
    kinds = {event.kind for event in client.jobs.events(job)}
    wanted = {
        EventKind.CREATED, EventKind.PROVISIONED, EventKind.STARTED, EventKind.CHECKPOINT_SAVED, EventKind.EVALUATED,
        EventKind.RETRIED, EventKind.RESUMED, EventKind.PAUSED, EventKind.ROLLED_BACK, EventKind.SELECTED, EventKind.EXPORTED,
        EventKind.SUCCEEDED,
    }  # fmt: skip
    assert wanted <= kinds, wanted - kinds

    # ---- the export goes to TRL
    steep("jobs", "download", job, "--to", tmp_path / "model")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("sft_steps.py"), tmp_path / "model", tmp_path / "sft"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(told["losses"]) == 4
    assert told["losses"][-1] < told["losses"][0]
    assert told["moved"] > 0
    assert (tmp_path / "sft" / "model.safetensors").is_file()
