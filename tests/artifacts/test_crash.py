"""Killed at any boundary, a checkpoint is the old one or the new one, never half of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from crash_driver import prepare, save

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.lineage import Lineage, branch, rollback, tree
from steep.artifacts.rundir import RunDirectory
from steep.spec.job import JobSpec

DRIVER = Path(__file__).with_name("crash_driver.py")


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    run = RunDirectory(tmp_path / "prepared")
    run.write_spec(JobSpec.model_validate({"name": "trunk", "base": "/base", "corpus": {"sources": ["/text"]}}))
    prepare(run)
    return run.path


def crashes(scenario: str, prepared: Path, out: Path, at_least: int) -> list[RunDirectory]:
    """The run after a kill at each boundary; the last one was not killed."""
    out.mkdir()
    ended = subprocess.run(
        [sys.executable, str(DRIVER), scenario, str(prepared), str(out)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    boundaries = (out / "boundaries").read_text().splitlines()
    assert len(boundaries) >= at_least, boundaries
    return [RunDirectory(out / str(number)) for number in range(len(boundaries) + 1)]


def catalog_of(run: RunDirectory) -> CheckpointCatalog:
    return CheckpointCatalog(run.checkpoints)


def all_valid(catalog: CheckpointCatalog) -> list[tuple[int, str]]:
    """Steps and marks of all checkpoints; fails when one of them is not whole."""
    return [(step, catalog.verify(step).facts["mark"]) for step in catalog.steps()]


def test_saving(prepared: Path, tmp_path: Path) -> None:
    seen = set()
    for run in crashes("save", prepared, tmp_path / "out", 20):
        catalog = catalog_of(run)
        found = all_valid(catalog)
        assert found in ([(1, "old"), (2, "old")], [(1, "old"), (2, "old"), (3, "new")])
        rejected: list[int] = []
        newest = catalog.newest_valid(lambda step, why, rejected=rejected: rejected.append(step))
        assert newest is not None
        assert (newest.step, rejected) == (found[-1][0], [])
        seen.add(newest.step)
        catalog.clean()
        assert not list(catalog.directory.glob(".*"))
        save(catalog, 3, "again")
        assert all_valid(catalog)[-1] == (3, "again")
    assert seen == {2, 3}


def test_saving_a_step_again(prepared: Path, tmp_path: Path) -> None:
    seen = set()
    for run in crashes("save again", prepared, tmp_path / "out", 20):
        catalog = catalog_of(run)
        assert all_valid(catalog) in ([(1, "old")], [(1, "old"), (2, "old")], [(1, "old"), (2, "new")])
        catalog.clean()
        found = all_valid(catalog)
        assert found in ([(1, "old"), (2, "old")], [(1, "old"), (2, "new")])
        seen.add(found[-1][1])
    assert seen == {"old", "new"}


def test_deleting(prepared: Path, tmp_path: Path) -> None:
    seen = set()
    for run in crashes("delete", prepared, tmp_path / "out", 6):
        catalog = catalog_of(run)
        assert all_valid(catalog) in ([(1, "old")], [(1, "old"), (2, "old")])
        catalog.clean()
        assert not list(catalog.directory.glob(".*"))
        seen.add(len(all_valid(catalog)))
    assert seen == {1, 2}


def test_recording_metrics(prepared: Path, tmp_path: Path) -> None:
    for run in crashes("metrics", prepared, tmp_path / "out", 4):
        assert catalog_of(run).verify(2).metrics in ({}, {"bpb": 1.0})


def test_rolling_back(prepared: Path, tmp_path: Path) -> None:
    seen = set()
    for run in crashes("rollback", prepared, tmp_path / "out", 8):
        catalog = catalog_of(run)
        seen.add(len(all_valid(catalog)))
        rollback(run, 1)
        assert all_valid(catalog) == [(1, "old")]
        lines = Lineage.read(run).abandoned
        aside = [step for line in lines for step in CheckpointCatalog(run.checkpoints / line.name).steps()]
        assert aside == [2]
        assert {row.manifest.step for row in tree(run)} == {1, 2}
    assert seen == {1, 2}


def test_branching(prepared: Path, tmp_path: Path) -> None:
    seen = set()
    for run in crashes("branch", prepared, tmp_path / "out", 20):
        new = run.path.parent / f"branch of {run.path.name}"
        seen.add(new.exists())
        if new.exists():
            assert all_valid(catalog_of(RunDirectory(new))) == [(2, "old")]
            assert Lineage.read(RunDirectory(new)).origin is not None
        else:
            branch(run, 2, new, run.spec())
        assert all_valid(catalog_of(run)) == [(1, "old"), (2, "old")]
    assert seen == {True, False}


def test_bytes_are_on_the_disk_before_the_names_that_promise_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill loses nothing that was written; a power cut does, unless it was synced in this order."""
    trace: list[str] = []

    def watch(name: str) -> None:
        call = getattr(os, name)

        def watched(first: object, *rest: object, **options: object) -> object:
            target = Path(f"/proc/self/fd/{first}").readlink() if name == "fsync" else Path(str(first))
            trace.append(f"{name} {target.name}")
            return call(first, *rest, **options)

        monkeypatch.setattr(os, name, watched)

    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not name open files under /proc")
    catalog = CheckpointCatalog(tmp_path / "checkpoints")
    staging = catalog.stage(7)
    (staging / "weights").write_bytes(b"w")
    for name in ("fsync", "rename", "replace"):
        watch(name)
    catalog.commit(7, tokens_seen=1, cursor=1, spec_fingerprint="", order_fingerprint="", model_fingerprint="")
    manifest = next(one.split()[1] for one in trace if one.startswith("replace"))
    assert trace == [
        "fsync weights",
        f"fsync {manifest}",
        f"replace {manifest}",
        f"fsync {staging.name}",
        f"rename {staging.name}",
        "fsync checkpoints",
    ]
    assert json.loads((catalog.path(7) / "manifest.json").read_bytes())["step"] == 7
