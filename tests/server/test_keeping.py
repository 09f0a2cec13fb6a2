"""What is kept of jobs that rest: by project and by job; what must not go stays, and what goes is told with its bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.serving import serving, wait_for
from tests.server.shelving import Shelf, save

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.lineage import branch, go_back
from steep.artifacts.mirror import RemoteCheckpoints
from steep.artifacts.store import open_store
from steep.server import copies
from steep.server.keeping import prune
from steep.server.loops.retention import RetentionLoop
from steep.server.removal import delete_checkpoint, remove_checkpoint
from steep.server.service import Service
from steep.spec.api.checkpoints import Pruned
from steep.spec.api.projects import Keeping, ProjectRequest, ProjectView
from steep.spec.errors import Conflict, NotFound
from steep.spec.events import EventKind
from steep.spec.job import JobSpec

DAY_SECONDS = 86_400.0
STEPS = (10, 20, 30, 40, 50)
BEST = 30


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    one = Shelf(tmp_path)
    yield one
    one.service.close()


def kept(shelf: Shelf, job: str) -> list[int]:
    """Steps in the catalog, which are also those on disk."""
    steps = sorted(shelf.views(job))
    assert steps == shelf.service.run(job).catalog().steps()
    return steps


def pruned(shelf: Shelf, job: str, last: int = 1, best: int = 1, **more: Any) -> tuple[int, ...]:
    return prune(shelf.service, job, keep_last=last, keep_best=best, why="deleted", **more).steps


def test_the_newest_and_the_best_stay_and_the_rest_gives_back_its_bytes(shelf: Shelf) -> None:
    job = shelf.job(*STEPS, size=1000)
    before = prune(shelf.service, job, keep_last=1, keep_best=1, why="", dry_run=True)
    assert kept(shelf, job) == list(STEPS)
    after = prune(shelf.service, job, keep_last=1, keep_best=1, why="deleted: enough")
    assert before.steps == after.steps == (10, 20, 40)
    assert kept(shelf, job) == [BEST, 50]
    assert before.freed_bytes == 3000 < after.freed_bytes < 6000  # with their manifests
    cost = shelf.store.jobs.get(job, shelf.now).cost
    assert (cost.stored_bytes, cost.freed_bytes) == (2000, after.freed_bytes)
    project = shelf.store.projects.get("default")
    assert (project.stored_bytes, project.freed_bytes) == (2000, after.freed_bytes)
    events = shelf.events(job, EventKind.CHECKPOINT_DELETED)
    assert (events[0].data["step"], events[0].message) == (10, "step 10 deleted: enough")
    assert sum(event.data["freed_bytes"] for event in events) == after.freed_bytes
    assert pruned(shelf, job) == ()


def went_back(shelf: Shelf, job: str, step: int) -> None:
    """As a rollback that a user asked for."""
    go_back(shelf.service.run(job), step)
    shelf.store.checkpoints.set_aside(job, step, "", shelf.now)


def test_what_was_set_aside_counts_as_stored_until_it_is_pruned(shelf: Shelf) -> None:
    job = shelf.job(*STEPS, size=1000)
    went_back(shelf, job, 30)
    cost = shelf.store.jobs.get(job, shelf.now).cost
    assert (cost.stored_bytes, cost.aside_bytes, cost.freed_bytes) == (5000, 2000, 0)
    assert shelf.store.projects.get("default").stored_bytes == 5000
    before = prune(shelf.service, job, keep_last=3, keep_best=1, why="", dry_run=True)
    assert (before.steps, before.aside_steps) == ((), (40, 50))
    after = prune(shelf.service, job, keep_last=3, keep_best=1, why="deleted: enough")
    assert after == before
    assert 2000 < after.freed_bytes < 4000  # with their manifests
    assert not list(shelf.service.run(job).checkpoints.glob("abandoned-*"))
    cost = shelf.store.jobs.get(job, shelf.now).cost
    assert (cost.stored_bytes, cost.aside_bytes, cost.freed_bytes) == (3000, 0, after.freed_bytes)
    (event,) = shelf.events(job, EventKind.NOTICE)
    assert (event.message, event.data["freed_bytes"]) == ("what was set aside deleted: enough", after.freed_bytes)
    assert prune(shelf.service, job, keep_last=3, keep_best=1, why="") == Pruned()


def test_what_a_line_left_that_goes_may_go_too(shelf: Shelf) -> None:
    job = shelf.job(*STEPS)
    run = shelf.service.run(job)
    go_back(run, 10)
    for step in STEPS[1:]:
        save(run.catalog(), step, 1000)
    for dry_run in (True, False):
        found = prune(shelf.service, job, keep_last=1, keep_best=1, why="", dry_run=dry_run)
        assert (found.steps, found.aside_steps) == ((10, 20, 40), STEPS[1:])
    assert kept(shelf, job) == [BEST, 50]


def test_what_went_and_was_not_written_down_is_written_down_the_next_time(shelf: Shelf) -> None:
    job = shelf.job(*STEPS)
    went_back(shelf, job, 30)
    shutil.rmtree(shelf.service.run(job).checkpoints / "abandoned-1")  # and the server is killed
    assert prune(shelf.service, job, keep_last=3, keep_best=1, why="").steps == ()
    assert shelf.store.jobs.get(job, shelf.now).cost.aside_bytes == 0


def test_what_the_database_does_not_know_to_be_set_aside_keeps_nothing_else_from_staying(shelf: Shelf) -> None:
    """A server that was killed after a rollback, or a worker after the guard's: the rows are those of before."""
    job = shelf.job(*STEPS)
    run = shelf.service.run(job)
    go_back(run, 20)
    found = prune(shelf.service, job, keep_last=1, keep_best=1, why="")
    assert (found.steps, found.aside_steps) == ((10,), (30, 40, 50))
    assert kept(shelf, job) == [20]
    cost = shelf.store.jobs.get(job, shelf.now).cost
    assert (cost.stored_bytes, cost.aside_bytes) == (1000, 0)


def test_one_that_is_lost_takes_no_sound_ones_place(shelf: Shelf) -> None:
    job = shelf.job(*STEPS)
    shutil.rmtree(shelf.service.run(job).catalog().path(50))
    assert pruned(shelf, job) == (10, 20)
    assert shelf.service.run(job).catalog().steps() == [BEST, 40]


def test_lines_stay_where_nothing_is_left_beside_them(shelf: Shelf) -> None:
    job = shelf.job(*STEPS)
    went_back(shelf, job, 0)
    assert prune(shelf.service, job, keep_last=1, keep_best=1, why="") == Pruned()
    assert CheckpointCatalog(shelf.service.run(job).checkpoints / "abandoned-1").steps() == list(STEPS)
    assert shelf.store.jobs.get(job, shelf.now).cost.aside_bytes == 5000


def test_lines_alone_go_where_that_is_asked_for(shelf: Shelf) -> None:
    job = shelf.job(*STEPS)
    went_back(shelf, job, 40)
    found = prune(shelf.service, job, keep_last=1, keep_best=1, why="", only_set_aside=True)
    assert (found.steps, found.aside_steps) == ((), (50,))
    assert kept(shelf, job) == [10, 20, 30, 40]


def test_a_disk_that_is_not_there_says_nothing(shelf: Shelf) -> None:
    job = shelf.job(*STEPS)
    went_back(shelf, job, 30)
    run = shelf.service.run(job)
    run.path.rename(run.path.with_name("away"))
    with pytest.raises(Conflict, match="is not there"):
        prune(shelf.service, job, keep_last=1, keep_best=1, why="")
    assert not run.path.exists()
    assert shelf.store.jobs.get(job, shelf.now).cost.aside_bytes == 2000


def test_a_project_lets_go_of_what_its_ended_jobs_set_aside(shelf: Shelf) -> None:
    keep = Keeping(after_seconds=DAY_SECONDS, last=5, best=1)
    shelf.store.projects.create(ProjectRequest(name="physics", keep=keep), shelf.now)
    job = shelf.job(*STEPS, project="physics")
    went_back(shelf, job, 30)
    shelf.now += 1.0
    other = shelf.job(*STEPS, project="physics")  # the first one is in nobody's way
    went_back(shelf, other, 30)
    lineage = shelf.service.run(job).path / "lineage.json"
    whole = lineage.read_bytes()
    lineage.write_text("{")
    shelf.now += DAY_SECONDS + 1
    assert [one.job_id for one in shelf.store.projects.prunable(shelf.now)] == [job, other]
    RetentionLoop(shelf.service).turn()
    assert [one.job_id for one in shelf.store.projects.prunable(shelf.now)] == [job]
    lineage.write_bytes(whole)
    RetentionLoop(shelf.service).turn()
    assert not list(shelf.service.run(job).checkpoints.glob("abandoned-*"))
    assert kept(shelf, job) == [10, 20, 30]
    assert shelf.store.projects.prunable(shelf.now) == []


def pruned_steps(service: Service, job: str) -> tuple[int, ...]:
    return prune(service, job, keep_last=1, keep_best=1, why="deleted").steps


def pruned_bytes(shelf: Shelf, job: str) -> int:
    return prune(shelf.service, job, keep_last=1, keep_best=1, why="deleted").freed_bytes


def _pinned(shelf: Shelf, job: str) -> None:
    shelf.store.checkpoints.pin(job, 10, True, shelf.now)


def _pinned_on_disk(shelf: Shelf, job: str) -> None:
    shelf.service.run(job).catalog().pin(10)


def _selected(shelf: Shelf, job: str) -> None:
    shelf.store.checkpoints.select(job, 10, shelf.now)


def _verified(shelf: Shelf, job: str) -> None:
    """The newest is not known to be valid: should it be damaged, there must be something to go back to."""
    shelf.store.checkpoints.verified(job, 10, "valid", "", shelf.now)


def _branched(shelf: Shelf, job: str) -> None:
    run = shelf.service.run(job)
    branch(run, 10, shelf.service.settings.run_directory("branch"), run.spec())


def _branched_elsewhere(shelf: Shelf, job: str) -> None:
    """Its directory is not on this disk."""
    values = {"name": "branch", "base": "org/x", "corpus": {"sources": ["hf://org/x"]}}
    shelf.store.jobs.submit(JobSpec.model_validate(values), shelf.now, parent=(job, 10))


def _went_back(shelf: Shelf, job: str) -> None:
    """A line that was set aside descends from it, of which something is pinned; this line has come as far again."""
    run = shelf.service.run(job)
    run.catalog().pin(40)
    go_back(run, 10)
    for step in STEPS[1:]:
        save(run.catalog(), step, 1000)


@pytest.mark.parametrize(
    "protect", [_pinned, _pinned_on_disk, _selected, _verified, _branched, _branched_elsewhere, _went_back]
)
def test_what_is_needed_is_never_deleted(shelf: Shelf, protect: Any) -> None:
    job = shelf.job(*STEPS)
    protect(shelf, job)
    assert pruned(shelf, job) == (20, 40)
    assert kept(shelf, job) == [10, BEST, 50]


def test_of_damaged_ones_the_last_hope_is_kept(shelf: Shelf) -> None:
    job = shelf.job(10, 20)
    for step in (10, 20):
        shelf.store.checkpoints.verified(job, step, "damaged", "", shelf.now)
    assert pruned(shelf, job) == ()
    shelf.store.checkpoints.verified(job, 10, "valid", "", shelf.now)
    assert pruned(shelf, job) == (20,)  # worse than nothing, though the newest


def test_a_model_from_scratch_has_a_best_one_too(shelf: Shelf) -> None:
    job = shelf.job(*STEPS)
    with shelf.store.database.write(shelf.now) as transaction:
        transaction.connection.exec_driver_sql("UPDATE evaluations SET general = '{}', forgetting = NULL")
    assert kept(shelf, job) == list(STEPS)
    assert pruned(shelf, job) == (10, 20, 40)


def test_the_services_copies_go_too_but_not_those_that_can_mend(tmp_path: Path) -> None:
    place = tmp_path / "copies"
    place.mkdir()
    shelf = Shelf(tmp_path, artifacts=str(place))
    job = shelf.job(*STEPS, size=1000)
    catalog = shelf.service.run(job).catalog()
    remote = RemoteCheckpoints(open_store(f"{place}/{job}"), "kept", "data")  # as its worker makes them
    for step in STEPS:
        remote.upload(catalog, step)
    with shelf.store.database.write(shelf.now) as transaction:
        transaction.connection.exec_driver_sql("UPDATE checkpoints SET uploaded = true")
    shelf.store.checkpoints.verified(job, 20, "damaged", "", shelf.now)
    freed = prune(shelf.service, job, keep_last=1, keep_best=1, why="")
    assert freed.steps == (10, 40)
    assert remote.steps() == [20, 30, 50]
    assert freed.freed_bytes > 4000  # here and there
    shelf.service.close()


def test_it_is_written_down_before_the_copy_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "copies"
    place.mkdir()
    shelf = Shelf(tmp_path, artifacts=str(place))
    job = shelf.job(*STEPS, size=1000)
    remote = RemoteCheckpoints(open_store(f"{place}/{job}"), "kept", "data")
    remote.upload(shelf.service.run(job).catalog(), 10)

    def remove(service: Service, job_id: str, step: int) -> int:
        """The store is far away, and others look meanwhile."""
        states.append(service.store.checkpoints.get(job_id, step).state)
        return copies.remove_copy(service, job_id, step)

    states: list[str] = []
    monkeypatch.setattr("steep.server.removal.remove_copy", remove)
    freed = pruned_bytes(shelf, job)
    assert set(states) == {"deleted"}
    assert remote.steps() == []
    assert shelf.store.jobs.get(job, shelf.now).cost.freed_bytes == freed  # the copy's too
    shelf.service.close()


def test_a_copy_in_a_store_that_was_away_goes_when_it_is_asked_for_again(tmp_path: Path) -> None:
    place, away = tmp_path / "copies", tmp_path / "away"
    place.mkdir()
    shelf = Shelf(tmp_path, artifacts=str(place))
    job = shelf.job(10, 20, size=1000)
    remote = RemoteCheckpoints(open_store(f"{place}/{job}"), "kept", "data")
    remote.upload(shelf.service.run(job).catalog(), 10)
    place.rename(away)
    place.write_text("no directory")
    first = remove_checkpoint(shelf.service, job, 10).freed_bytes
    place.unlink()
    away.rename(place)
    assert remote.steps() == [10]
    again = remove_checkpoint(shelf.service, job, 10).freed_bytes
    assert remote.steps() == []
    assert again > 1000
    assert shelf.store.jobs.get(job, shelf.now).cost.freed_bytes == first + again
    assert remove_checkpoint(shelf.service, job, 10).freed_bytes == 0
    shelf.service.close()


@pytest.mark.parametrize("again", [remove_checkpoint, lambda service, job, _: pruned_steps(service, job)])
def test_a_deletion_that_was_cut_off_goes_on_when_it_is_asked_for_again(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, again: Any
) -> None:
    job = shelf.job(10, 20)
    catalog = shelf.service.run(job).catalog()
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointCatalog, "bury", lambda *_: _raise(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            remove_checkpoint(shelf.service, job, 10)
    assert shelf.store.checkpoints.get(job, 10).state == "deleted"
    assert list(catalog.directory.glob(".deleted-*"))
    again(shelf.service, job, 10)
    assert not list(catalog.directory.glob(".deleted-*"))
    assert kept(shelf, job) == [20]


def _raise(error: Exception) -> None:
    raise error


def test_nothing_goes_while_somebody_works(shelf: Shelf) -> None:
    job = shelf.job(*STEPS, ended=False)
    with pytest.raises(Conflict, match="a worker uses"):
        pruned(shelf, job)
    job = shelf.job(*STEPS)
    with shelf.service.run(job).lock():
        with pytest.raises(Conflict, match="is working here"):
            pruned(shelf, job)
        with pytest.raises(Conflict, match="is working here"):
            delete_checkpoint(shelf.service, job, 10)
    assert kept(shelf, job) == list(STEPS)


def test_a_project_keeps_of_its_ended_jobs_what_it_says(shelf: Shelf) -> None:
    keep = Keeping(after_seconds=7 * DAY_SECONDS, last=2, best=1)
    shelf.store.projects.create(ProjectRequest(name="physics", keep=keep), shelf.now)
    loop = RetentionLoop(shelf.service)
    old, working, other = (
        shelf.job(*STEPS, project="physics"),
        shelf.job(*STEPS, project="physics", ended=False),
        shelf.job(*STEPS),
    )
    shelf.now += 7 * DAY_SECONDS - 1
    loop.turn()
    assert kept(shelf, old) == list(STEPS)
    shelf.now += 2
    young = shelf.job(*STEPS, project="physics")
    with shelf.service.run(old).lock():
        loop.turn()
    assert kept(shelf, old) == list(STEPS)
    loop.turn()
    assert kept(shelf, old) == [BEST, 40, 50]
    assert kept(shelf, working) == kept(shelf, other) == kept(shelf, young) == list(STEPS)
    (first, *_) = shelf.events(old, EventKind.CHECKPOINT_DELETED)
    assert first.message == "step 10 deleted: project physics keeps the last 2 and the best 1"
    assert [one.job_id for one in shelf.store.projects.prunable(shelf.now)] == [old]  # three, of which two are the last


def test_it_is_asked_for_over_the_wire(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    job = shelf.job(*STEPS)
    shelf.service.close()
    with serving(tmp_path) as house, house.client() as client:
        assert client.checkpoints.prune(job, keep_last=2, dry_run=True).steps == (10, 20)
        done = client.checkpoints.prune(job, keep_last=2)
        assert [view.step for view in client.checkpoints.list(job)] == [30, 40, 50]
        assert client.jobs.detail(job).cost.freed_bytes == done.freed_bytes

        def project() -> ProjectView:
            return next(one for one in client.projects.list() if one.name == "default")

        assert project().freed_bytes == done.freed_bytes
        assert project().keep == Keeping()
        client.projects.change("default", keep=Keeping(after_seconds=60.0, last=3))
        client.projects.change("default", share=2.0)
        assert project().keep == Keeping(after_seconds=60.0, last=3, best=1)
        client.projects.change("default", keep=Keeping())
        assert project().keep.after_seconds is None


def test_one_is_not_deleted_over_the_wire_while_somebody_is_at_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    job = shelf.job(*STEPS)
    shelf.service.close()
    with serving(tmp_path) as house, house.client() as client:
        with house.service.run(job).lock(), pytest.raises(Conflict, match="is working here"):
            client.checkpoints.delete(job, 10)
        assert client.checkpoints.delete(job, 10).freed_bytes > 0
        with pytest.raises(NotFound):
            client.checkpoints.delete(job, 11)


def test_it_goes_on_with_the_server(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    job = shelf.job(*STEPS)
    shelf.store.projects.change(ProjectRequest(name="default", keep=Keeping(after_seconds=0.0)), shelf.now)
    shelf.service.close()
    with serving(tmp_path, loops=True) as house, house.client() as client:
        wait_for(lambda: [view.step for view in client.checkpoints.list(job)] == [BEST, 50], 20)
        assert house.service.run(job).catalog().steps() == [BEST, 50]
