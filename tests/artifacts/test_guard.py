"""What the guard did is written down, and goes with the line that it was done to."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.artifacts.conftest import MakeRun, spec_of

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.guard import GuardRecord, GuardRollback
from steep.artifacts.lineage import branch, go_back, rollback
from steep.spec.errors import DamagedArtifact


def record(*to_steps: int, **more: str) -> GuardRecord:
    """Rollbacks to these steps; what was left before the n-th has the fingerprints `spec n` and `order n`."""
    rollbacks = tuple(
        GuardRollback(
            at_step=to_step + 40, to_step=to_step, spec_fingerprint=f"spec {number}", order_fingerprint=f"order {number}",
            message="forgot too much", **more,
        )
        for number, to_step in enumerate(to_steps)
    )  # fmt: skip
    return GuardRecord(training="this one", rollbacks=rollbacks)


def made_before(one: GuardRecord, training: int, step: int) -> bool:
    return one.made_before(f"spec {training}", f"order {training}", step)


def test_it_comes_back_and_an_empty_one_leaves_no_file(tmp_path: Path) -> None:
    assert GuardRecord.read(tmp_path) == GuardRecord()
    record(80).write(tmp_path)
    assert GuardRecord.read(tmp_path) == record(80)
    GuardRecord().write(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", '{"rollbacks": 1}', "[]"])
def test_a_damaged_one_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "guard.json").write_text(content)
    with pytest.raises(DamagedArtifact, match="not a record of the guard"):
        GuardRecord.read(tmp_path)


def test_checkpoints_from_before_a_rollback_stay_part_of_the_line() -> None:
    forward, backward = record(80, 120), record(120, 80)
    assert [made_before(forward, 0, step) for step in (40, 80, 100)] == [True, True, False]
    assert [made_before(forward, 1, step) for step in (100, 120, 140)] == [True, True, False]
    assert [made_before(backward, 0, step) for step in (80, 100, 120)] == [True, False, False]
    assert not made_before(forward, 2, 80)
    assert not forward.made_before("spec 0", "order 1", 80)


def test_a_line_takes_along_what_it_was_made_under() -> None:
    assert record(80, 120).until(140) == record(80, 120).until(120) == record(80, 120)
    assert record(80, 120).until(100) == record(80)
    assert record(80, 120).until(60) == record()
    assert record(120, 80).until(100) == record(120, 80)  # the line at 100 knows both
    assert record(120, 80).until(60) == record()
    assert record(0).until(1) == record(0)


def test_the_newest_replay_is_in_use() -> None:
    assert (record().replay, record(80).replay, record(80, replay="train-1").replay) == (None, None, "train-1")


def test_a_rollback_by_hand_undoes_what_came_after(make_run: MakeRun) -> None:
    run = make_run()
    record(1, 2).write(run.path)
    rollback(run, 1)
    assert GuardRecord.read(run.path) == record(1)


def test_a_branch_goes_on_as_its_trunk_does(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    record(1, 3).write(run.path)
    new = branch(run, 2, tmp_path / "branch", spec_of("branch"))
    assert GuardRecord.read(new.path) == record(1)
    assert GuardRecord.read(run.path) == record(1, 3)


def test_back_to_the_base_sets_all_aside(make_run: MakeRun) -> None:
    run = make_run()
    run.evaluation.mkdir()
    for name in ("base", "checkpoint-00000002"):
        (run.evaluation / f"{name}.json").write_text("{}")
    line = go_back(run, 0)
    assert line is not None
    assert line.steps == (1, 2, 3)
    assert CheckpointCatalog(run.checkpoints).steps() == []
    assert [path.name for path in run.evaluation.iterdir()] == ["base.json"]
    assert [path.name for path in run.checkpoints.iterdir()] == [line.name]
