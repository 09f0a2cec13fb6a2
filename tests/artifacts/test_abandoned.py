"""Lines that were set aside are counted, and go when their space is wanted, but for what somebody needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crash_driver import save
from tests.artifacts.conftest import MakeRun, spec_of

from steep.artifacts.abandoned import bytes_set_aside, dispensable, lines_that_go, unpin_set_aside
from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.files import unshared_bytes
from steep.artifacts.lineage import branch, go_back, rollback, tree
from steep.artifacts.pruning import prune_run
from steep.artifacts.retention import RetentionPolicy
from steep.artifacts.rundir import RunDirectory
from steep.spec.api.checkpoints import Pruned
from steep.spec.errors import Fenced, RunBusy


def catalog_of(run: RunDirectory, line: str = "") -> CheckpointCatalog:
    return CheckpointCatalog(run.checkpoints / line)


def delete_abandoned(checkpoints: Path, may_write: Callable[[], None] = lambda: None) -> int:
    return sum(one.delete(may_write) for one in dispensable(checkpoints))


def sizes(run: RunDirectory, *steps: int) -> int:
    return sum(catalog_of(run).get(step).size_bytes for step in steps)


@pytest.fixture
def run(make_run: MakeRun) -> RunDirectory:
    """Two lines were set aside: step 3, and then steps 2 and 3 with that line in theirs."""
    made = make_run()
    rollback(made, 2)
    save(catalog_of(made), 3, "again")
    (made.evaluation).mkdir(exist_ok=True)
    (made.evaluation / "checkpoint-00000003.json").write_text("{}")
    rollback(made, 1)
    return made


OUTER, INNER = "abandoned-2", "abandoned-2/abandoned-1"


def test_what_is_set_aside_is_counted_once(make_run: MakeRun) -> None:
    run = make_run()
    assert bytes_set_aside(run.checkpoints) == 0
    expected = sizes(run, 2, 3)
    rollback(run, 1)
    assert bytes_set_aside(run.checkpoints) == expected > 0
    save(catalog_of(run), 2, "new")
    assert bytes_set_aside(run.checkpoints) == expected


def test_all_that_nobody_needs_goes_and_says_its_bytes(run: RunDirectory) -> None:
    before = unshared_bytes(run.checkpoints)
    found = dispensable(run.checkpoints)
    assert [(one.line.relative_to(run.checkpoints).as_posix(), one.steps, one.all) for one in found] == [
        (INNER, (3,), True),
        (OUTER, (2, 3), True),
    ]
    assert lines_that_go(found) == {"abandoned-1", "abandoned-2"}
    freed = delete_abandoned(run.checkpoints)
    assert freed == before - unshared_bytes(run.checkpoints)
    assert bytes_set_aside(run.checkpoints) == 0
    assert not list(run.checkpoints.glob("abandoned-*"))
    assert catalog_of(run).branches(1) == ()
    assert [row.manifest.step for row in tree(run)] == [1]
    assert catalog_of(run).verify(1)
    assert delete_abandoned(run.checkpoints) == 0


def test_what_is_somebodys_own_stays(run: RunDirectory) -> None:
    for place in (run.checkpoints, run.checkpoints / OUTER):
        (place / "abandoned-things").mkdir()
        (place / "abandoned-things" / "notes.txt").write_text("mine")
    delete_abandoned(run.checkpoints)
    assert len(list(run.checkpoints.rglob("notes.txt"))) == 2
    assert catalog_of(run, OUTER).steps() == []


def test_what_is_pinned_stays_with_what_it_descends_from(run: RunDirectory) -> None:
    catalog_of(run, INNER).pin(3)
    assert delete_abandoned(run.checkpoints) > 0
    assert catalog_of(run, INNER).verify(3)
    assert catalog_of(run, OUTER).steps() == [2]  # which the inner line left
    assert catalog_of(run).branches(1) == ("abandoned-2",)
    assert not unpin_set_aside(run.checkpoints, 2)
    assert unpin_set_aside(run.checkpoints, 3)
    delete_abandoned(run.checkpoints)
    assert not list(run.checkpoints.glob("abandoned-*"))


def test_what_stays_keeps_its_place_though_nobody_says_what_it_descends_from(run: RunDirectory) -> None:
    catalog_of(run, INNER).pin(3)
    (run.checkpoints / OUTER / "step-00000002.branches").unlink()
    delete_abandoned(run.checkpoints)
    assert catalog_of(run, INNER).verify(3)


def test_what_somebody_branched_from_stays_while_the_branch_is_there(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    made = branch(run, 2, tmp_path / "branch", spec_of("branch"))
    rollback(run, 1)
    delete_abandoned(run.checkpoints)
    assert catalog_of(run, "abandoned-1").steps() == [2]
    made.path.rename(tmp_path / "gone")
    delete_abandoned(run.checkpoints)
    assert not list(run.checkpoints.glob("abandoned-*"))
    assert CheckpointCatalog(tmp_path / "gone" / "checkpoints").verify(2)


def test_bytes_that_a_branch_shares_are_not_called_freed(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(steps=(1, 2))
    made = branch(run, 2, tmp_path / "branch", spec_of("branch"))
    rollback(run, 1)
    made.path.rename(tmp_path / "elsewhere")
    (line,) = dispensable(run.checkpoints)
    before = unshared_bytes(run.checkpoints)
    assert line.freeable_bytes == delete_abandoned(run.checkpoints) == before - unshared_bytes(run.checkpoints)


def test_a_deletion_that_was_cut_off_goes_on(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointCatalog, "bury", die)
        with pytest.raises(KeyboardInterrupt):
            delete_abandoned(run.checkpoints)
    assert len(tree(run)) == 3  # one is condemned
    before = unshared_bytes(run.checkpoints)
    assert delete_abandoned(run.checkpoints) == before - unshared_bytes(run.checkpoints)
    assert not list(run.checkpoints.glob("abandoned-*"))


def test_a_deletion_that_was_cut_off_goes_on_in_a_line_that_stays(run: RunDirectory) -> None:
    catalog_of(run, OUTER).pin(2)
    catalog_of(run, OUTER).condemn(3)
    delete_abandoned(run.checkpoints)
    assert catalog_of(run, OUTER).condemned_steps() == []
    assert catalog_of(run, OUTER).steps() == [2]


def test_nothing_goes_by_the_hand_of_one_that_was_fenced_off(run: RunDirectory) -> None:
    def refuse() -> None:
        raise Fenced("a later attempt works here", where="run", cure="")

    before = unshared_bytes(run.checkpoints)
    with pytest.raises(Fenced):
        delete_abandoned(run.checkpoints, refuse)
    assert unshared_bytes(run.checkpoints) == before


# ---- the run's own line too


def test_a_run_that_rests_is_pruned(make_run: MakeRun) -> None:
    run = make_run(steps=(1, 2, 3, 4, 5))
    rollback(run, 4)
    for step, gain in ((1, 0.3), (2, 0.1), (3, 0.2), (4, 0.25)):
        catalog_of(run).record_metrics(step, {"gain": gain, "forgetting": 0.0})
    policy = RetentionPolicy(keep_last=1, keep_best=1)
    before = prune_run(run, policy, selected=3, dry_run=True)
    assert (before.steps, before.aside_steps) == ((2,), (5,))
    assert catalog_of(run).steps() == [1, 2, 3, 4]
    used = unshared_bytes(run.checkpoints)
    assert prune_run(run, policy, selected=3).model_copy(update={"freed_bytes": 0}) == before.model_copy(
        update={"freed_bytes": 0}
    )
    assert unshared_bytes(run.checkpoints) == used - before.freed_bytes
    assert catalog_of(run).steps() == [1, 3, 4]
    assert prune_run(run, policy, selected=3).freed_bytes == 0


def spoil(run: RunDirectory, step: int) -> None:
    next(path for path in catalog_of(run).path(step).iterdir() if path.name != "manifest.json").write_bytes(b"other")


def test_of_a_run_the_newest_that_is_right_is_kept(make_run: MakeRun) -> None:
    run = make_run()
    spoil(run, 3)
    assert prune_run(run, RetentionPolicy(keep_last=1, keep_best=0), selected=None).steps == (1, 3)
    assert catalog_of(run).steps() == [2]
    spoil(run, 2)
    assert prune_run(run, RetentionPolicy(keep_last=1, keep_best=0), selected=None).steps == ()  # the last hope


def test_lines_stay_where_nothing_sound_is_left_beside_them(make_run: MakeRun) -> None:
    run = make_run()
    go_back(run, 0)
    assert prune_run(run, RetentionPolicy(), selected=None) == Pruned()
    save(catalog_of(run), 1, "new")
    spoil(run, 1)
    assert prune_run(run, RetentionPolicy(), selected=None) == Pruned()
    assert catalog_of(run, "abandoned-1").steps() == [1, 2, 3]


def test_lines_alone_go_where_that_is_asked_for(make_run: MakeRun) -> None:
    run = make_run(steps=(1, 2, 3, 4))
    rollback(run, 3)
    assert prune_run(run, None, selected=None).aside_steps == (4,)
    assert catalog_of(run).steps() == [1, 2, 3]


def test_a_run_that_works_is_left_alone(make_run: MakeRun) -> None:
    run = make_run()
    with run.lock(), pytest.raises(RunBusy):
        prune_run(run, RetentionPolicy(), selected=None)
