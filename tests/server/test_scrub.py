"""Checkpoints are read back in the background: what is damaged is found, told with what to do, and used for nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.serving import serving
from tests.server.shelving import WEIGHTS, Shelf, save

from steep.artifacts.lineage import go_back
from steep.artifacts.scrubbing import PIECE_BYTES, read_back
from steep.server.loops.scrub import AGAIN_SECONDS, IDLE_SECONDS, Scrub
from steep.server.settings import Scrubbing
from steep.server.store.tables import checkpoints
from steep.spec.errors import Conflict, DamagedArtifact, ServerUnavailable
from steep.spec.events import EventKind

DAY_SECONDS = 86_400.0


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    one = Shelf(tmp_path, scrub=Scrubbing(every_seconds=DAY_SECONDS, settle_seconds=60.0, bytes_per_second=10e6))
    yield one
    one.service.close()


def states(shelf: Shelf, job: str) -> dict[int, str]:
    return {step: view.state for step, view in shelf.views(job).items()}


def test_each_is_read_soon_after_it_was_saved_and_then_every_so_often(shelf: Shelf) -> None:
    job = shelf.job(1, 2)
    scrub = Scrub(shelf.service)
    scrub.turn()
    assert states(shelf, job) == {1: "unverified", 2: "unverified"}  # just saved
    shelf.now += 61.0
    scrub.turn()
    assert states(shelf, job) == {1: "valid", 2: "valid"}
    read_at = shelf.now
    assert [view.verified_at for view in shelf.views(job).values()] == [read_at, read_at]
    assert [event.data["step"] for event in shelf.events(job, EventKind.CHECKPOINT_VERIFIED)] == [1, 2]
    shelf.now += DAY_SECONDS - 1
    scrub.turn()
    assert shelf.views(job)[1].verified_at == read_at
    shelf.now += IDLE_SECONDS + 1
    scrub.turn()
    assert shelf.views(job)[1].verified_at == shelf.now
    assert len(shelf.events(job, EventKind.CHECKPOINT_VERIFIED)) == 2  # that nothing has changed is no news


def test_no_more_is_read_than_is_allowed(shelf: Shelf) -> None:
    job = shelf.job(1, 2, size=5 * PIECE_BYTES)
    shelf.service.settings = replace(shelf.service.settings, scrub=Scrubbing(bytes_per_second=2.0 * PIECE_BYTES))
    shelf.now += 3600.0
    scrub, turns = Scrub(shelf.service), 0
    while "unverified" in states(shelf, job).values():
        scrub.turn()
        turns += 1
    assert turns == 6  # ten pieces and the ends of two checkpoints, two pieces a turn
    shelf.service.settings = replace(shelf.service.settings, scrub=Scrubbing(bytes_per_second=0))
    shelf.now += 30 * DAY_SECONDS
    scrub.turn()
    assert shelf.views(job)[1].verified_at != shelf.now


def test_a_rotten_one_is_told_of_with_what_to_do(shelf: Shelf) -> None:
    job = shelf.job(1, 2, 3)
    shelf.now += 61.0
    scrub = Scrub(shelf.service)
    scrub.turn()
    shelf.spoil(job, 3)
    shelf.now += DAY_SECONDS + 60
    scrub.turn()
    assert states(shelf, job) == {1: "valid", 2: "valid", 3: "damaged"}
    (event,) = shelf.events(job, EventKind.CHECKPOINT_DAMAGED)
    assert event.data == {"step": 3}
    assert "the file's content does not match its hash" in event.message
    assert "the newest valid one is step 2" in event.message
    assert f"steep checkpoints delete {job} 3" in event.message
    shelf.now += 10 * DAY_SECONDS
    scrub.turn()
    assert len(shelf.events(job, EventKind.CHECKPOINT_DAMAGED)) == 1  # told once


@pytest.mark.parametrize("what", ["manifest", "missing file", "short file"])
def test_whatever_is_wrong_is_found(shelf: Shelf, what: str) -> None:
    job = shelf.job(1)
    weights = shelf.weights(job, 1)
    if what == "manifest":
        weights.with_name("manifest.json").write_text("{}")
    elif what == "missing file":
        weights.unlink()
    else:
        weights.write_bytes(b"short")
    shelf.now += 61.0
    Scrub(shelf.service).turn()
    assert states(shelf, job) == {1: "damaged"}
    (event,) = shelf.events(job, EventKind.CHECKPOINT_DAMAGED)
    assert "has no other that is known to be valid" in event.message


def test_nothing_is_made_of_a_damaged_one(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    job = shelf.job(1, 2)
    shelf.store.checkpoints.verified(job, 2, "damaged", "rotten", shelf.now)
    shelf.service.close()
    with serving(tmp_path) as house, house.client() as client:
        for make in (
            lambda: client.jobs.branch(job, 2, name="branch"),
            lambda: client.checkpoints.download(job, 2, tmp_path / "copy"),
        ):
            with pytest.raises(Conflict, match="step 2 is damaged") as caught:
                make()
            assert "steep checkpoints verify" in (caught.value.cure or "")
        client.jobs.branch(job, 1, name="branch")
        assert any("1 checkpoint is damaged" in warning for warning in client.status().warnings)
        assert client.checkpoints.verify(job, 2).state == "valid"  # its bytes are right after all
        client.checkpoints.download(job, 2, tmp_path / "copy")
        assert (tmp_path / "copy" / WEIGHTS).stat().st_size == 1000


# --------------------------------------------------------------------------------------------------- what is no damage


def begun(shelf: Shelf, job: str) -> Scrub:
    """A scrub that has read one piece of the job's first checkpoint, and goes on at ten megabytes a turn."""
    shelf.now += 61.0
    shelf.service.settings = replace(shelf.service.settings, scrub=Scrubbing(settle_seconds=60.0, bytes_per_second=1.0))
    scrub = Scrub(shelf.service)
    scrub.turn()
    shelf.service.settings = replace(shelf.service.settings, scrub=Scrubbing(settle_seconds=60.0))
    return scrub


def test_one_that_is_saved_anew_while_it_is_read_is_read_anew(shelf: Shelf) -> None:
    job = shelf.job(1, size=3 * PIECE_BYTES)
    scrub = begun(shelf, job)
    with open(shelf.weights(job, 1), "r+b") as stream:  # in place, so that the reader sees old and new
        stream.seek(2 * PIECE_BYTES)
        stream.write(b"x" * PIECE_BYTES)
    save(shelf.service.run(job).catalog(), 1, 3 * PIECE_BYTES, b"y")
    scrub.turn()
    assert states(shelf, job) == {1: "valid"}
    assert shelf.events(job, EventKind.CHECKPOINT_DAMAGED) == []


def test_one_that_is_deleted_while_it_is_read_is_no_damage(shelf: Shelf) -> None:
    job = shelf.job(1, size=3 * PIECE_BYTES)
    scrub = begun(shelf, job)
    shelf.service.run(job).catalog().delete(1)
    shelf.store.checkpoints.delete(job, 1, 0, "", shelf.now)
    scrub.turn()
    assert shelf.events(job, EventKind.CHECKPOINT_DAMAGED) == []
    assert shelf.store.checkpoints.get(job, 1).state == "deleted"


def _unmounted(shelf: Shelf, job: str) -> None:
    shelf.service.run(job).path.rename(shelf.service.settings.data / "elsewhere")


def _lost(shelf: Shelf, job: str) -> None:
    shutil.rmtree(shelf.service.run(job).catalog().path(2))


def _went_back(shelf: Shelf, job: str) -> None:
    go_back(shelf.service.run(job), 1)


@pytest.mark.parametrize(
    ("change", "ended", "state"),
    [
        (_unmounted, True, "unverified"),  # the disk is not there, which says nothing of what lies on it
        (_lost, True, "damaged"),
        (_lost, False, "unverified"),  # its worker may have deleted it, and says so soon
        (_went_back, False, "deleted"),
    ],
)
def test_one_that_is_not_there(shelf: Shelf, change: Callable[[Shelf, str], None], ended: bool, state: str) -> None:
    job = shelf.job(1, 2, ended=ended)
    change(shelf, job)
    shelf.now += 61.0
    scrub = Scrub(shelf.service)
    scrub.turn()
    assert shelf.store.checkpoints.get(job, 2).state == ("deleted" if change is _went_back else "unverified")
    shelf.now += AGAIN_SECONDS + 1  # one look is not enough
    scrub.turn()
    assert shelf.store.checkpoints.get(job, 2).state == state
    if change is _unmounted:
        (shelf.service.settings.data / "elsewhere").rename(shelf.service.run(job).path)
        shelf.now += AGAIN_SECONDS + 1
        scrub.turn()
        assert states(shelf, job) == {1: "valid", 2: "valid"}


def test_one_that_was_saved_after_going_back_and_is_lost_is_damaged(shelf: Shelf) -> None:
    job = shelf.job(1, 2)
    run = shelf.service.run(job)
    go_back(run, 1)
    shelf.now = time.time() + 5.0
    with shelf.store.database.write(shelf.now) as transaction:
        transaction.execute(checkpoints.update().where(checkpoints.c.step == 2).values(created_at=shelf.now))
    shelf.now += 61.0
    scrub = Scrub(shelf.service)
    scrub.turn()
    shelf.now += AGAIN_SECONDS + 1
    scrub.turn()
    assert shelf.store.checkpoints.get(job, 2).state == "damaged"


def test_where_it_cannot_be_told_what_was_set_aside_nothing_is_called_valid(shelf: Shelf) -> None:
    job = shelf.job(1, 2)
    _lost(shelf, job)
    lineage = shelf.service.run(job).path / "lineage.json"
    lineage.write_text("{")
    shelf.now += 61.0
    scrub = Scrub(shelf.service)
    for _ in range(4):
        scrub.turn()
        shelf.now += AGAIN_SECONDS + 1
    assert shelf.store.checkpoints.get(job, 2).state == "unverified"
    lineage.unlink()
    for _ in range(2):
        scrub.turn()
        shelf.now += AGAIN_SECONDS + 1
    assert shelf.store.checkpoints.get(job, 2).state == "damaged"


def test_what_failed_in_the_middle_is_looked_at_from_the_beginning(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = shelf.job(1, 2, ended=False)
    _went_back(shelf, job)
    shelf.now += 61.0
    scrub = Scrub(shelf.service)

    def away(*_: object) -> None:
        raise ServerUnavailable("the database is away", where="", cure="")

    with monkeypatch.context() as patch:
        patch.setattr(shelf.store.checkpoints, "set_one_aside", away)
        with pytest.raises(ServerUnavailable):
            scrub.turn()
    scrub.turn()
    assert shelf.store.checkpoints.get(job, 2).state == "deleted"


def test_one_is_not_called_lost_while_somebody_works_on_its_run(shelf: Shelf) -> None:
    job = shelf.job(1, 2)
    _lost(shelf, job)
    shelf.now += 61.0
    scrub = Scrub(shelf.service)
    scrub.turn()
    with shelf.service.run(job).lock():
        shelf.now += AGAIN_SECONDS + 1
        scrub.turn()
        assert states(shelf, job) == {1: "valid", 2: "unverified"}
    shelf.now += AGAIN_SECONDS + 1
    scrub.turn()
    assert states(shelf, job) == {1: "valid", 2: "damaged"}


def test_a_deletion_that_was_cut_off_is_gone_on_with_and_no_damage(shelf: Shelf) -> None:
    job = shelf.job(1, 2)
    catalog = shelf.service.run(job).catalog()
    condemned = catalog.path(2).with_name(f".deleted-{catalog.path(2).name}")
    catalog.path(2).rename(condemned)  # and then whoever deleted it was killed
    shelf.now += 61.0
    scrub = Scrub(shelf.service)
    scrub.turn()
    shelf.now += AGAIN_SECONDS + 1
    scrub.turn()
    assert shelf.events(job, EventKind.CHECKPOINT_DAMAGED) == []
    assert shelf.store.checkpoints.get(job, 2).state == "deleted"
    assert not condemned.exists()
    assert shelf.store.jobs.get(job, shelf.now).cost.freed_bytes > 1000


def test_many_that_cannot_be_read_keep_none_from_being_read(shelf: Shelf) -> None:
    away = shelf.job(*range(1, 102), size=10)
    shelf.now += 1.0
    here = shelf.job(1)
    _unmounted(shelf, away)
    shelf.now += 61.0
    Scrub(shelf.service).turn()
    assert states(shelf, here) == {1: "valid"}


def test_a_job_that_is_deleted_meanwhile_disturbs_nobody(shelf: Shelf) -> None:
    job = shelf.job(1, size=3 * PIECE_BYTES)
    shelf.now += 1.0
    other = shelf.job(1)
    scrub = begun(shelf, job)
    shutil.rmtree(shelf.service.run(job).path)
    shelf.store.jobs.delete(job, shelf.now)
    scrub.turn()
    assert states(shelf, other) == {1: "valid"}


def test_reading_back_finds_what_reading_all_at_once_finds(shelf: Shelf) -> None:
    catalog = shelf.service.run(shelf.job(1, size=2 * PIECE_BYTES + 5)).catalog()
    assert list(read_back(catalog, 1)) == [PIECE_BYTES, PIECE_BYTES, 5]
    path = catalog.path(1) / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    for read in (lambda: list(read_back(catalog, 1)), lambda: catalog.verify(1)):
        with pytest.raises(DamagedArtifact, match="does not match its hash"):
            read()


def test_it_runs_with_the_server(tmp_path: Path) -> None:
    from tests.server.serving import wait_for

    shelf = Shelf(tmp_path)
    job = shelf.job(1)
    shelf.service.close()
    with serving(tmp_path, loops=True, scrub=Scrubbing(settle_seconds=0.0)) as house:
        begun_at = time.time()
        wait_for(lambda: house.service.store.checkpoints.get(job, 1).state == "valid", 20)
        assert time.time() - begun_at < 10
