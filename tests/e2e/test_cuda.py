"""A whole job on a GPU, by itself and through the service, which lends the GPU to it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import STEEP, Steep, reports, results
from tests.server.serving import free_port

pytestmark = pytest.mark.gpu
MakeJob = Callable[..., Path]
SETTINGS: dict[str, Any] = {
    "replay__source": "self", "evaluation__prompts": ["The "], "training__budget": "60 steps", "checkpoints__every": "20 steps",
}  # fmt: skip


def test_a_job_runs_to_an_export_that_scores_the_same(steep: Steep, make_job: MakeJob, tmp_path: Path) -> None:
    done = steep("run", make_job(**SETTINGS), "--dir", tmp_path / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [one for one in reports(tmp_path / "run") if one["kind"] == "step"]
    assert len(steps) == 60
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.5
    scores = results(tmp_path / "run")["scores"]
    selected = next(score for score in scores if score["selected"])
    assert selected["gain"] > 0.3
    assert (tmp_path / "run" / "export" / "model.safetensors").exists()


def test_a_job_that_was_stopped_goes_on(steep: Steep, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(**{**SETTINGS, "training__budget": "40 steps"})
    first = steep("run", job, "--dir", tmp_path / "run", "--until", "train")
    assert first.returncode == 0, first.stdout + first.stderr
    done = steep("run", job, "--dir", tmp_path / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(tmp_path / "run")["scores"]


@pytest.fixture
def service(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., str]]:
    """`steep` with a server of its own."""
    mine = {**environment, "XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_DATA_HOME": str(tmp_path / "data")}

    def call(*arguments: object) -> str:
        done = subprocess.run(
            [STEEP, *map(str, arguments)],
            cwd=tmp_path, env=mine, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("up", "--detach", "--port", free_port(), "--root", tmp_path.parent)
    try:
        yield call
    finally:
        call("down")


def test_the_service_lends_the_gpu(service: Callable[..., str], make_job: MakeJob) -> None:
    cards = [one for one in json.loads(service("gpus", "--json")) if one["kind"] == "gpu"]
    assert cards
    job = json.loads(service("jobs", "submit", make_job("lent", **SETTINGS), "--json"))["id"]
    service("jobs", "watch", job)
    shown = json.loads(service("jobs", "show", job, "--json"))
    assert shown["standing"]["state"] == "succeeded"
    assert [one["devices"] for one in shown["attempt_list"]] == [[cards[0]["id"]]]
    assert shown["outcome"]["gain"] > 0.3
