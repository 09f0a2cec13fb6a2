"""The verdict sees what it is there for: training that went back, bytes that differ, a catalog that names what is not there."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.chaos import verdict
from tests.chaos.verdict import Findings
from tests.contract.databases import sqlite_databases
from tests.contract.makers import heard, running, step

from steep.artifacts.rundir import RunDirectory
from steep.server.failure import Ending
from steep.server.store.store import Store
from steep.spec.reports import CheckpointReport


@dataclass
class Little:
    """As much of a world as is looked at here: a store and a data directory, with one job that has succeeded."""

    store: Store
    data: Path
    job: str

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(self.data / "runs" / self.job)

    def commit(self, number: int) -> None:
        (self.run.catalog().stage(number) / "weights").write_bytes(b"12345")
        fingerprints = {"spec_fingerprint": "s", "order_fingerprint": "o", "model_fingerprint": "m"}
        self.run.catalog().commit(number, tokens_seen=1, cursor=1, **fingerprints)

    def say(self, *reports: dict[str, Any]) -> None:
        self.run.path.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps({**one, "sequence": number}) for number, one in enumerate(reports))
        self.run.reports_file.write_text("\n".join(lines) + "\n")

    def look(self, name: str) -> list[str]:
        found: list[str] = getattr(verdict, name)(self, self.job, Findings())
        return found


@pytest.fixture
def little(tmp_path: Path) -> Any:
    with sqlite_databases() as databases:
        store = Store.open(databases.new(), migrate=False)
        attempt = running(store)
        saved = CheckpointReport(step=10, event="saved", size_bytes=5)
        heard(store, attempt, 3.0, step(10), saved)
        store.attempts.finish(attempt.job_id, 1, Ending(0), time.time())
        yield Little(store, tmp_path, attempt.job_id)
        store.close()


def test_training_that_went_back_is_seen(little: Little) -> None:
    saved = {"kind": "checkpoint", "event": "saved", "step": 20}
    little.say({"kind": "step", "step": 20}, saved, {"kind": "step", "step": 21})
    assert little.look("_lost_no_step") == []
    little.say({"kind": "step", "step": 20}, saved, {"kind": "step", "step": 11})
    assert "step 11 was done again" in little.look("_lost_no_step")[0]


def test_a_report_that_never_arrived_is_seen(little: Little) -> None:
    little.say({"kind": "step", "step": 10}, {"kind": "notice"})
    assert little.look("_lost_no_report") == []
    little.say({"kind": "step", "step": 10}, {"kind": "notice"}, {"kind": "notice"})
    assert little.look("_lost_no_report") == ["the server has 2 of 3 reports"]


def test_a_catalog_that_differs_from_the_disk_is_seen(little: Little) -> None:
    little.commit(10)
    assert little.look("_keeps_whole_checkpoints") == []
    little.commit(20)
    assert "names checkpoints [10], and there are [10, 20]" in little.look("_keeps_whole_checkpoints")[0]
    little.run.catalog().delete(20)
    (little.run.catalog().path(10) / "weights").write_bytes(b"12346")
    assert "checkpoint 10 is not whole" in little.look("_keeps_whole_checkpoints")[0]


def test_a_job_that_went_on_after_its_end_is_seen(little: Little) -> None:
    assert little.look("_stayed_ended") == []
    assert little.look("_ended_well") == []
    from steep.spec.events import EventKind

    little.store.jobs.tell(little.job, EventKind.STARTED, "again", time.time())
    assert "went on after its end" in little.look("_stayed_ended")[0]


def test_weights_that_differ_are_seen(little: Little, tmp_path: Path) -> None:
    for run in ("one", "other"):
        for file in ("checkpoints/step-00000010/manifest.json", "checkpoints/step-00000010/a.safetensors"):
            path = tmp_path / run / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"12345")
    weights = verdict.weights_of(tmp_path / "one")
    assert verdict._has_weights(tmp_path / "other", weights) == []
    (tmp_path / "other" / "checkpoints" / "step-00000010" / "a.safetensors").write_bytes(b"12346")
    assert "differs" in verdict._has_weights(tmp_path / "other", weights)[0]
