"""The engine's worker through the local backend: forked from the warm process and as a new program, with the same result."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest
from tests.contract.backends import Worker, eventually
from tests.e2e.conftest import make_base, reports

from steep.artifacts.files import hash_file
from steep.artifacts.rundir import RunDirectory
from steep.compute.contract import Order
from steep.compute.local.backend import LocalBackend
from steep.compute.local.records import AttemptRecords, Handle
from steep.spec.job import JobSpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="warm start is for Linux"),
]


def weights(run: Path) -> dict[str, str]:
    """Hashes of a checkpoint's weights and optimizer state."""
    return {path.name: hash_file(path) for path in (run / "checkpoints" / "step-00000004").glob("*.safetensors")}


def is_forked(worker: Worker) -> bool:
    """Whether it has the command line of the warm process."""
    started = AttemptRecords(Handle.parse(worker.handle)).started()
    assert started is not None
    return "steep.compute.local.forkserver" in psutil.Process(started.worker.pid).cmdline()


def is_trained(run: Path) -> bool:
    return any((one.get("stage"), one.get("event")) == ("train", "completed") for one in reports(run))


@pytest.fixture
def job(repository: Path, tmp_path: Path) -> JobSpec:
    """Four steps of a tiny model on some pages of Steep's own."""
    pages = sorted((repository / "docs" / "how-to").glob("*.md"))
    make_base(tmp_path / "base", [page.read_text(encoding="utf-8") for page in pages])
    return JobSpec.model_validate(
        {
            "name": "job",
            "base": str(tmp_path / "base"),
            "corpus": {"sources": [str(page) for page in pages], "holdout": "10%"},
            "replay": "none",
            "training": {
                "budget": "4 steps",
                "sequence_tokens": 128,
                "global_batch_tokens": 512,
                "precision": "fp32",  # `auto` is decided by a probe of speed, which a busy machine can mislead
            },
            "checkpoints": {"every": "4 steps"},
            "evaluation": {"max_tokens": 500, "interpolate": []},
        }
    )


def test_a_forked_worker_trains_the_same_weights(job: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = []
    with LocalBackend(tmp_path) as backend:
        for way in ("cold", "warm"):
            run = RunDirectory(tmp_path / way)
            run.path.mkdir()
            run.write_spec(job)
            if way == "warm":
                eventually(backend.is_warm, "the warm process")
            worker = Worker(backend, backend.submit(Order(way, 1, run.path, ("cpu-0",))))
            eventually(lambda: is_trained(run.path) or worker.status().is_over, "the training")  # noqa: B023 - at once
            assert is_trained(run.path), backend.logs(worker.handle, "stderr", 0).decode()
            found.append(weights(run.path))
            assert is_forked(worker) == (way == "warm")
            worker.cancel(grace_seconds=0)
            worker.ended()
    assert len(found[0]) >= 3
    assert found[0] == found[1]
