"""What the tests of this room share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crash_driver import save
from tests.artifacts.disks import small_disk

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.rundir import RunDirectory
from steep.spec.job import JobSpec

__all__ = ["small_disk"]

MakeRun = Callable[..., RunDirectory]


def spec_of(name: str = "trunk", **more: object) -> JobSpec:
    """A small job spec."""
    return JobSpec.model_validate({"name": name, "base": "/base", "corpus": {"sources": ["/text"]}, **more})


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes runs with checkpoints of these steps."""

    def make(name: str = "run", steps: tuple[int, ...] = (1, 2, 3), mark: str = "old") -> RunDirectory:
        run = RunDirectory(tmp_path / name)
        run.write_spec(spec_of(name.replace(" ", "-")))
        for step in steps:
            save(CheckpointCatalog(run.checkpoints), step, mark)
        return run

    return make


@pytest.fixture
def catalog(make_run: MakeRun) -> CheckpointCatalog:
    """The checkpoints 1, 2 and 3 of a run."""
    return CheckpointCatalog(make_run("a run", mark="mark").checkpoints)
