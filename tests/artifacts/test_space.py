"""Room is asked for before it is needed, on a disk that is really small."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.artifacts.disks import fill

from steep.artifacts.rundir import RunDirectory
from steep.artifacts.space import free_bytes, require_space
from steep.spec.errors import EXIT_STOPPED, OutOfSpace
from steep.spec.stages import Stage


def test_the_numbers_are_those_of_the_disk(small_disk: Path) -> None:
    assert free_bytes(small_disk) == 256 * 1024
    (small_disk / "file").write_bytes(b"x" * 100_000)
    free = free_bytes(small_disk / "not" / "there" / "yet")
    assert 256 * 1024 - 110_000 < free <= 256 * 1024 - 100_000


def test_what_does_not_fit_is_refused_with_the_numbers(small_disk: Path) -> None:
    require_space(small_disk / "checkpoints", 256 * 1024, "checkpoint 3")
    with pytest.raises(OutOfSpace, match="checkpoint 3 needs 1 MB and 262 kB are free") as refused:
        require_space(small_disk / "checkpoints", 10**6, "checkpoint 3")
    assert refused.value.exit_code == EXIT_STOPPED
    assert "small disk" in str(refused.value.where)
    assert not (small_disk / "checkpoints").exists()


def test_a_run_on_a_full_disk_pauses(small_disk: Path) -> None:
    run = RunDirectory(small_disk / "run")
    filler = fill(small_disk)
    with pytest.raises(OutOfSpace, match="the disk is full"), run.lock():
        pytest.fail("a lock that cannot say whose it is")
    with pytest.raises(OutOfSpace, match="the disk is full"):
        run.complete(Stage.PREPARE, "fingerprint", {})
    assert run.completion(Stage.PREPARE) is None
    filler.unlink()
    with run.lock():
        run.complete(Stage.PREPARE, "fingerprint", {})
    assert run.completion(Stage.PREPARE) is not None


def test_the_disk_of_a_place_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") > 0
    require_space(tmp_path / "a" / "b", 1, "a byte")
