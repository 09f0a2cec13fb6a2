"""Going back, going on in another way, and the tree of it all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from crash_driver import save
from tests.artifacts.conftest import MakeRun, spec_of
from tests.artifacts.disks import fill

from steep.artifacts import lineage as lineage_module
from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.lineage import Lineage, branch, rollback, set_aside, share, tree
from steep.artifacts.manifest import CheckpointManifest
from steep.artifacts.rundir import RunDirectory
from steep.spec.errors import DamagedArtifact, InvalidInput, OutOfSpace, RunBusy
from steep.spec.stages import ORDER, Stage


def catalog_of(run: RunDirectory) -> CheckpointCatalog:
    return CheckpointCatalog(run.checkpoints)


def marks(checkpoints: Path) -> list[tuple[int, str]]:
    """Steps of a catalog with what they were saved as; every byte is read."""
    catalog = CheckpointCatalog(checkpoints)
    return [(step, catalog.verify(step).facts["mark"]) for step in catalog.steps()]


def measure(run: RunDirectory, *names: str) -> None:
    run.evaluation.mkdir(exist_ok=True)
    for name in names:
        (run.evaluation / f"{name}.json").write_text("{}")


def drawn(run: RunDirectory) -> list[str]:
    """The tree as one would print it."""
    return [
        f"{'  ' * row.depth}{Path(row.line).name} {row.manifest.step}{' origin' if row.is_origin else ''}"
        for row in tree(run)
    ]


# ---- rollback


def test_a_rollback_sets_later_checkpoints_aside_and_deletes_nothing(make_run: MakeRun) -> None:
    run = make_run()
    for stage in ORDER:
        run.complete(stage, "fingerprint", {})
    catalog_of(run).pin(3)
    measure(run, "base", "checkpoint-00000001", "checkpoint-00000002", "interpolation-00000003-alpha-0.5")
    line = rollback(run, 1)
    assert line is not None
    assert (line.name, line.from_step, line.steps) == ("abandoned-1", 1, (2, 3))
    assert marks(run.checkpoints) == [(1, "old")]
    assert marks(run.checkpoints / line.name) == [(2, "old"), (3, "old")]
    assert CheckpointCatalog(run.checkpoints / line.name).pinned(3)
    assert {path.stem for path in run.evaluation.iterdir()} == {"base", "checkpoint-00000001"}
    assert {path.stem for path in (run.checkpoints / line.name / "evaluation").iterdir()} == {
        "checkpoint-00000002",
        "interpolation-00000003-alpha-0.5",
    }
    assert [stage for stage in ORDER if run.completion(stage) is not None] == [Stage.PREPARE, Stage.ASSESS]
    assert Lineage.read(run).abandoned == (line,)
    assert drawn(run) == ["main 1", "  abandoned-1 2", "  abandoned-1 3"]


def test_with_nothing_after_the_step_nothing_moves_but_the_stages_run_again(make_run: MakeRun) -> None:
    run = make_run()
    run.complete(Stage.TRAIN, "fingerprint", {})
    assert rollback(run, 3) is None
    assert run.completion(Stage.TRAIN) is None
    assert Lineage.read(run) == Lineage()


def test_measurements_of_deleted_checkpoints_go_too(make_run: MakeRun) -> None:
    run = make_run()
    measure(run, "checkpoint-00000009", "checkpoint-123456789")
    line = rollback(run, 3)
    assert line is not None
    assert line.steps == ()
    assert list(run.evaluation.iterdir()) == []
    assert marks(run.checkpoints) == [(1, "old"), (2, "old"), (3, "old")]


def test_what_a_line_was_left_at_cannot_be_deleted(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    rollback(run, 2)
    monkeypatch.chdir("/")
    assert catalog_of(run).branches(2) == ("abandoned-1",)
    with pytest.raises(InvalidInput, match="abandoned-1 descends from checkpoint 2"):
        catalog_of(run).delete(2)
    shutil.rmtree(run.checkpoints / "abandoned-1")
    assert catalog_of(run).delete(2) > 0


def test_a_second_rollback_takes_the_first_line_along(make_run: MakeRun) -> None:
    run = make_run()
    rollback(run, 2)
    save(catalog_of(run), 3, "again")
    rollback(run, 1)
    save(catalog_of(run), 2, "third")
    assert drawn(run) == ["main 1", "  abandoned-2 2", "    abandoned-1 3", "  abandoned-2 3", "main 2"]
    assert marks(run.checkpoints / "abandoned-2" / "abandoned-1") == [(3, "old")]
    assert CheckpointCatalog(run.checkpoints / "abandoned-2").branches(2) == ("abandoned-1",)
    assert set(Lineage.read(run).set_aside_at()) == {2, 3}


def test_a_line_keeps_its_name_when_its_directory_is_deleted(make_run: MakeRun) -> None:
    run = make_run()
    rollback(run, 2)
    shutil.rmtree(run.checkpoints / "abandoned-1")
    (run.checkpoints / "abandoned-things").mkdir()  # somebody's own
    save(catalog_of(run), 3, "again")
    line = rollback(run, 1)
    assert line is not None
    assert line.name == "abandoned-2"
    assert drawn(run) == ["main 1", "  abandoned-2 2", "  abandoned-2 3"]
    assert set(Lineage.read(run).set_aside_at().values()) == {line.abandoned_at}  # the last time counts


@pytest.mark.parametrize("step", [0, 4])
def test_a_step_that_is_not_there_moves_nothing(make_run: MakeRun, step: int) -> None:
    run = make_run()
    with pytest.raises(InvalidInput, match=f"no checkpoint of step {step}") as refused:
        rollback(run, step)
    assert "1, 2, 3" in str(refused.value.cure)
    assert marks(run.checkpoints) == [(1, "old"), (2, "old"), (3, "old")]


def test_a_damaged_goal_moves_nothing(make_run: MakeRun) -> None:
    run = make_run()
    run.complete(Stage.TRAIN, "fingerprint", {})
    (catalog_of(run).path(1) / "weights").write_bytes(b"rotten")
    with pytest.raises(DamagedArtifact, match="weights"):
        rollback(run, 1)
    assert catalog_of(run).steps() == [1, 2, 3]
    assert run.completion(Stage.TRAIN) is not None


def test_damaged_later_checkpoints_are_moved_like_others(make_run: MakeRun) -> None:
    run = make_run()
    (catalog_of(run).path(2) / "manifest.json").unlink()
    line = rollback(run, 1)
    assert line is not None
    assert line.steps == (2, 3)
    assert catalog_of(run).steps() == [1]


def test_a_run_that_is_worked_on_is_not_rolled_back(make_run: MakeRun) -> None:
    run = make_run()
    with run.lock(), pytest.raises(RunBusy):
        rollback(run, 1)
    assert catalog_of(run).steps() == [1, 2, 3]


KILLED_ROLLBACK = """
import os, signal, sys
from pathlib import Path
from steep.artifacts.lineage import rollback
from steep.artifacts.rundir import RunDirectory
left, rename = int(sys.argv[3]), Path.rename
def counted(path, target):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return rename(path, target)
Path.rename = counted
rollback(RunDirectory(sys.argv[1]), int(sys.argv[2]))
"""


@pytest.mark.parametrize("moves", range(7))
def test_a_rollback_killed_between_two_moves_is_completed_by_the_next(make_run: MakeRun, moves: int) -> None:
    """Moved are, in this order: a line that was left earlier, two measurements, checkpoints 4 and 3, what
    lies beside checkpoint 2, and it."""
    run = make_run(steps=(1, 2, 3))
    rollback(run, 2)
    for step in (3, 4):
        save(catalog_of(run), step, "new")
    measure(run, "checkpoint-00000001", "checkpoint-00000003", "checkpoint-00000004")
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_ROLLBACK, str(run.path), "1", str(moves)], capture_output=True, check=False
    )
    assert ended.returncode == -9, ended.stderr
    remain = catalog_of(run).steps()
    assert remain == list(range(1, len(remain) + 1))  # the beginning of the line
    measured = {path.stem for path in run.evaluation.iterdir()}
    assert len(remain) == 4 or measured == {"checkpoint-00000001"}  # numbers never outlive the checkpoints they are of
    rollback(run, 1)
    assert marks(run.checkpoints) == [(1, "old")]
    assert {path.stem for path in run.evaluation.iterdir()} == {"checkpoint-00000001"}
    everything = sorted((row.manifest.step, row.manifest.facts["mark"]) for row in tree(run))
    assert everything == [(1, "old"), (2, "old"), (3, "new"), (3, "old"), (4, "new")]
    assert [row.line for row in tree(run) if row.manifest.facts["mark"] == "old" and row.manifest.step == 3] == [
        "abandoned-1"
    ]


def test_a_full_disk_stops_a_rollback_before_anything_moved(small_disk: Path) -> None:
    run = RunDirectory(small_disk / "run")
    run.write_spec(spec_of())
    for step in (1, 2):
        save(catalog_of(run), step, "old")
    with run.lock():
        pass
    filler = fill(small_disk)
    with pytest.raises(OutOfSpace, match="the disk is full"):
        rollback(run, 1)
    assert marks(run.checkpoints) == [(1, "old"), (2, "old")]
    filler.unlink()
    assert rollback(run, 1) is not None


# ---- setting aside


def test_setting_aside_takes_only_these(make_run: MakeRun) -> None:
    run = make_run()
    line = set_aside(run, [1, 3])
    assert (line.name, line.from_step, line.steps) == ("abandoned-1", 0, (1, 3))
    assert marks(run.checkpoints) == [(2, "old")]
    assert marks(run.checkpoints / "abandoned-1") == [(1, "old"), (3, "old")]
    assert catalog_of(run).branches(2) == ()
    assert drawn(run) == ["main 2", "  abandoned-1 1", "  abandoned-1 3"]
    assert set(Lineage.read(run).set_aside_at()) == {1, 3}


def test_setting_aside_leaves_earlier_lines_where_they_are(make_run: MakeRun) -> None:
    run = make_run()
    rollback(run, 2)
    set_aside(run, [1, 2])
    save(catalog_of(run), 1, "new")
    assert [line.name for line in Lineage.read(run).abandoned] == ["abandoned-1", "abandoned-2"]
    assert marks(run.checkpoints / "abandoned-1") == [(3, "old")]
    assert len(tree(run)) == 4


# ---- branch


def test_a_branch_is_a_run_of_its_own_that_shares_what_does_not_change(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    for name in ("dataset/train/a/tokens-00000.bin", "base/self/x", "recipe.json", "evaluation/base.json"):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text(name)
    measure(run, "checkpoint-00000002")
    for stage in (Stage.PREPARE, Stage.ASSESS, Stage.TRAIN):
        run.complete(stage, "fingerprint", {})
    spec = spec_of("other", training={"learning_rate": 1e-5})
    new = branch(run, 2, tmp_path / "deep" / "other", spec)
    assert new.path == tmp_path / "deep" / "other"
    assert new.spec() == spec
    assert marks(new.checkpoints) == [(2, "old")]
    for name in ("dataset/train/a/tokens-00000.bin", "base/self/x", "recipe.json", "evaluation/base.json"):
        assert (new.path / name).samefile(run.path / name)
    assert (catalog_of(new).path(2) / "weights").samefile(catalog_of(run).path(2) / "weights")
    assert [stage for stage in ORDER if new.completion(stage)] == [Stage.PREPARE, Stage.ASSESS]
    assert [path.name for path in new.evaluation.iterdir()] == ["base.json"]
    origin, manifest = Lineage.read(new).origin, catalog_of(run).get(2)
    assert origin is not None
    assert (origin.run, origin.step, origin.tokens_seen, origin.identity) == (str(run.path), 2, 20, manifest.identity)
    assert Lineage.read(new).adopts(catalog_of(new).get(2))
    assert not Lineage.read(new).adopts(catalog_of(run).get(1))
    assert [entry.name for entry in new.path.parent.iterdir()] == ["other"]


def test_a_branch_lives_on_without_its_trunk_and_the_trunk_without_it(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    new = branch(run, 2, tmp_path / "new", spec_of("new"))
    with pytest.raises(InvalidInput, match=r"new descends from checkpoint 2"):
        catalog_of(run).delete(2)
    catalog_of(run).record_metrics(2, {"bpb": 1.0})  # on one side only
    save(catalog_of(run), 2, "saved anew")
    assert marks(new.checkpoints) == [(2, "old")]
    assert catalog_of(new).get(2).metrics == {}
    shutil.rmtree(run.path)
    assert marks(new.checkpoints) == [(2, "old")]
    assert drawn(new) == ["main 2 origin"]
    run = make_run("second")
    new = branch(run, 2, tmp_path / "newer", spec_of("newer"))
    shutil.rmtree(new.path)
    assert catalog_of(run).branches(2) == ()
    assert catalog_of(run).delete(2) > 0


def test_a_branch_of_a_branch(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    first = branch(run, 2, tmp_path / "first", spec_of("first"))
    save(catalog_of(first), 5, "first")
    second = branch(first, 5, tmp_path / "second", spec_of("second"))
    save(catalog_of(second), 8, "second")
    assert drawn(run) == ["main 1", "main 2", "  first 5", "    second 8", "main 3"]
    rollback(first, 2)
    assert drawn(run) == ["main 1", "main 2", "    abandoned-1 5", "      second 8", "main 3"]
    assert drawn(second) == ["main 5 origin", "main 8"]
    assert drawn(first) == ["main 2 origin", "  abandoned-1 5", "    second 8"]


def test_branches_that_name_each_other_do_not_go_round_for_ever(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    new = branch(run, 2, tmp_path / "new", spec_of("new"))
    catalog_of(new).record_branch(2, run.path)
    assert len(tree(run)) == 3


def test_a_checkpoint_is_protected_while_it_is_being_branched(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    attempts: list[tuple[str, ...]] = []

    def watched(source: Path, target: Path) -> None:
        attempts.append(catalog_of(run).branches(2))
        share(source, target)

    monkeypatch.setattr(lineage_module, "share", watched)
    branch(run, 2, tmp_path / "new", spec_of("new"))
    assert attempts[0] == (str(tmp_path / ".new.branching"),)
    assert catalog_of(run).branches(2) == (str(tmp_path / "new"),)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"base": "/other"}, "base"),
        ({"training": {"method": "lora"}}, "training.method"),
        ({"base": "/other", "training": {"method": {"lora": {"rank": 8}}}}, "base and training.method"),
    ],
)
def test_a_branch_cannot_change_the_base_or_the_method(
    make_run: MakeRun, tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    run = make_run()
    with pytest.raises(InvalidInput, match=f"cannot change {named}$") as refused:
        branch(run, 2, tmp_path / "new", spec_of("new", **changes))
    assert "export" in str(refused.value.cure)
    assert not (tmp_path / "new").exists()
    assert catalog_of(run).branches(2) == ()


def test_a_place_that_holds_something_is_refused_an_empty_one_is_not(make_run: MakeRun, tmp_path: Path) -> None:
    run, place = make_run(), tmp_path / "new"
    place.mkdir()
    (place / "file").touch()
    with pytest.raises(InvalidInput, match="exists already"):
        branch(run, 2, place, spec_of("new"))
    (place / "file").unlink()
    assert marks(branch(run, 2, place, spec_of("new")).checkpoints) == [(2, "old")]
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="exists already"):
        branch(run, 2, tmp_path / "file", spec_of("new"))


def test_a_damaged_or_absent_checkpoint_is_not_branched(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    (catalog_of(run).path(2) / "optimizer").write_bytes(b"rotten")
    with pytest.raises(DamagedArtifact, match="optimizer"):
        branch(run, 2, tmp_path / "new", spec_of("new"))
    with pytest.raises(InvalidInput, match="no checkpoint of step 7"):
        branch(run, 7, tmp_path / "new", spec_of("new"))
    assert not (tmp_path / "new").exists()
    assert catalog_of(run).branches(2) == (), "what was refused protects nothing"


def test_a_checkpoint_is_protected_before_it_is_read(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    verify = CheckpointCatalog.verify

    def reading(catalog: CheckpointCatalog, step: int) -> CheckpointManifest:
        manifest = verify(catalog, step)
        with pytest.raises(InvalidInput, match="descends from checkpoint 2"):
            catalog_of(run).delete(2)
        return manifest

    monkeypatch.setattr(CheckpointCatalog, "verify", reading)
    assert marks(branch(run, 2, tmp_path / "new", spec_of("new")).checkpoints) == [(2, "old")]


@pytest.mark.parametrize("moment", ["verify", "share"])
def test_a_checkpoint_that_is_deleted_meanwhile_is_no_damage(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Whoever deletes it may have looked for branches just before."""
    run = make_run()
    gone = catalog_of(run).path(2)
    verify = CheckpointCatalog.verify

    def reading(catalog: CheckpointCatalog, step: int) -> CheckpointManifest:
        if moment == "share":
            manifest = verify(catalog, step)
        shutil.rmtree(gone)
        if moment == "verify":
            raise DamagedArtifact("is missing", where=str(gone / "weights"))
        return manifest

    monkeypatch.setattr(CheckpointCatalog, "verify", reading)
    with pytest.raises(InvalidInput, match="checkpoint 2 has just been deleted"):
        branch(run, 2, tmp_path / "new", spec_of("new"))
    assert [path for path in tmp_path.iterdir() if "new" in path.name] == []


def test_a_branch_to_another_disk_is_a_copy(make_run: MakeRun, small_disk: Path) -> None:
    run = make_run()
    assert run.path.stat().st_dev != small_disk.stat().st_dev
    new = branch(run, 2, small_disk / "new", spec_of("new"))
    assert marks(new.checkpoints) == [(2, "old")]
    assert not (catalog_of(new).path(2) / "weights").samefile(catalog_of(run).path(2) / "weights")


def test_a_branch_that_does_not_fit_is_none(make_run: MakeRun, small_disk: Path) -> None:
    run = make_run()
    filler = fill(small_disk)
    with pytest.raises(OutOfSpace, match="the disk is full"):
        branch(run, 2, small_disk / "new", spec_of("new"))
    assert not (small_disk / "new").exists()
    filler.unlink()
    assert marks(branch(run, 2, small_disk / "new", spec_of("new")).checkpoints) == [(2, "old")]


# ---- the record


@pytest.mark.parametrize("content", ["", "{", '{"unknown": 1}', '{"abandoned": [{"name": 1}]}'])
def test_a_damaged_record_is_named(make_run: MakeRun, content: str) -> None:
    run = make_run()
    (run.path / "lineage.json").write_text(content)
    with pytest.raises(DamagedArtifact, match=r"lineage\.json"):
        Lineage.read(run)


def test_the_record_is_readable_by_people(make_run: MakeRun) -> None:
    run = make_run()
    rollback(run, 2)
    rollback(run, 1)
    recorded = json.loads((run.path / "lineage.json").read_text())
    assert recorded["origin"] is None
    (line,) = recorded["abandoned"]
    assert (line["name"], line["steps"], line["abandoned"][0]["name"]) == ("abandoned-2", [2], "abandoned-1")
