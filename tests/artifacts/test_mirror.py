"""Copies in a store: whole or not there, owned, caught up with; whatever the store does, training goes on."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from crash_driver import save
from tests.artifacts.buckets import bucket, s3_address
from tests.artifacts.conftest import MakeRun

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.lineage import Lineage, rollback, set_aside
from steep.artifacts.manifest import CheckpointManifest, dump_manifest
from steep.artifacts.mirror import Mirror, RemoteCheckpoints
from steep.artifacts.rundir import RunDirectory
from steep.artifacts.store import DirectoryStore, Store, StoredObject, StoreUnavailable, open_store
from steep.spec.errors import DamagedArtifact, InvalidInput, OutOfSpace

__all__ = ["bucket", "s3_address"]


class Moody(DirectoryStore):
    """A directory that can be out of order, slow, or do something while it is being written to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.broken = False
        self.attempts = 0
        self.before_put: Callable[[str], None] = lambda key: None

    def put(self, key: str, content: Path | bytes, *, if_absent: bool = False) -> bool:
        self.attempts += 1
        if self.broken:
            raise StoreUnavailable("the store failed: out of order", where=key)
        self.before_put(key)
        return super().put(key, content, if_absent=if_absent)


@pytest.fixture
def store(tmp_path: Path) -> Moody:
    return Moody(tmp_path / "store")


@pytest.fixture
def remote(store: Moody) -> RemoteCheckpoints:
    return RemoteCheckpoints(store, "job", "order of the data")


@pytest.fixture
def elsewhere(tmp_path: Path) -> CheckpointCatalog:
    """The catalog of a new machine."""
    return CheckpointCatalog(tmp_path / "new machine" / "checkpoints")


def marks(catalog: CheckpointCatalog) -> list[tuple[int, str]]:
    return [(step, catalog.verify(step).facts["mark"]) for step in catalog.steps()]


def keys(store: Store, prefix: str = "job") -> list[str]:
    return [one.key for one in store.list(prefix)]


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


# ---- the copies


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_down_and_back(
    catalog: CheckpointCatalog, elsewhere: CheckpointCatalog, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = str(tmp_path / "store") if kind == "directory" else f"s3://{request.getfixturevalue('bucket')}/x"
    remote = RemoteCheckpoints(open_store(url), "job", "owner")
    remote.claim()
    assert remote.steps() == []
    for step in (1, 2, 3):
        assert remote.upload(catalog, step) == catalog.get(step)
        assert remote.upload(catalog, step) is None
    assert remote.steps() == [1, 2, 3]
    assert remote.manifest(2) == catalog.get(2)
    assert remote.fetch(elsewhere, 2) == catalog.get(2)
    assert marks(elsewhere) == [(2, "mark")]
    newest = remote.fetch_newest(elsewhere)
    assert newest == catalog.get(3)
    assert elsewhere.verify(3) == catalog.get(3)
    remote.delete(3)
    remote.delete(3)
    assert remote.steps() == [1, 2]
    assert not any("step-00000003" in key for key in keys(remote.store))


def test_the_manifest_comes_last_and_goes_first(
    catalog: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    store.before_put = lambda key: order.append(Path(key).name)
    remote.upload(catalog, 1)
    assert order == ["optimizer", "weights", "manifest.json"]
    order.clear()
    delete = store.delete
    monkeypatch.setattr(store, "delete", lambda key: (order.append(Path(key).name), delete(key)))
    remote.delete(1)
    assert order == ["manifest.json", "optimizer", "weights"]


def test_an_upload_that_broke_off_is_no_checkpoint_and_goes_on_where_it_was(
    catalog: CheckpointCatalog, elsewhere: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody
) -> None:
    put: list[str] = []

    def break_off(key: str) -> None:
        if key.endswith("manifest.json"):
            raise StoreUnavailable("the store failed: gone", where=key)
        put.append(Path(key).name)

    store.before_put = break_off
    with pytest.raises(StoreUnavailable):
        remote.upload(catalog, 1)
    assert (remote.steps(), put) == ([], ["optimizer", "weights"])
    assert remote.fetch_newest(elsewhere) is None
    with pytest.raises(DamagedArtifact, match="is not in the store"):
        remote.fetch(elsewhere, 1)
    store.before_put = lambda key: put.append(Path(key).name)
    assert remote.upload(catalog, 1) is not None
    assert put == ["optimizer", "weights", "manifest.json"]


def test_new_metrics_copy_the_manifest_only(
    catalog: CheckpointCatalog, elsewhere: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody
) -> None:
    remote.upload(catalog, 1)
    catalog.record_metrics(1, {"gain": 0.5})
    put: list[str] = []
    store.before_put = lambda key: put.append(Path(key).name)
    assert remote.upload(catalog, 1) is not None
    assert put == ["manifest.json"]
    assert remote.fetch(elsewhere, 1).metrics == {"gain": 0.5}


def test_another_state_of_the_step_replaces_the_copy(
    catalog: CheckpointCatalog, elsewhere: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody
) -> None:
    remote.upload(catalog, 1)
    before = keys(store)
    save(catalog, 1, "again")
    remote.upload(catalog, 1)
    assert len(keys(store)) == len(before) == 3
    assert set(before) & set(keys(store)) == {"job/step-00000001/manifest.json"}
    remote.fetch(elsewhere, 1)
    assert marks(elsewhere) == [(1, "again")]


def test_a_step_saved_anew_during_its_upload_is_copied_whole(
    catalog: CheckpointCatalog, elsewhere: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody
) -> None:
    def save_anew(key: str) -> None:
        if key.endswith("weights"):
            store.before_put = lambda key: None
            save(catalog, 1, "again")

    store.before_put = save_anew
    assert remote.upload(catalog, 1) == catalog.get(1)
    remote.fetch(elsewhere, 1)
    assert marks(elsewhere) == [(1, "again")]


def test_wrong_bytes_are_not_copied(catalog: CheckpointCatalog, remote: RemoteCheckpoints) -> None:
    file = catalog.path(1) / "weights"
    file.write_bytes(bytes(len(file.read_bytes())))
    with pytest.raises(DamagedArtifact, match="does not match its hash"):
        remote.upload(catalog, 1)
    assert remote.steps() == []


def test_prefixes_do_not_mix(catalog: CheckpointCatalog, store: Moody) -> None:
    one, other = RemoteCheckpoints(store, "job", "o"), RemoteCheckpoints(store, "job-2", "o")
    one.upload(catalog, 1)
    other.upload(catalog, 2)
    assert (one.steps(), other.steps()) == ([1], [2])
    one.delete(2)
    assert other.steps() == [2]


# ---- who owns them


def test_another_owner_is_refused_and_touches_nothing(
    catalog: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody
) -> None:
    remote.claim()
    remote.claim()
    stranger = RemoteCheckpoints(store, "job", "order of other data")
    with pytest.raises(InvalidInput, match="a job of the same name on other data") as refused:
        stranger.claim()
    assert "another name" in str(refused.value.cure)
    mirror = Mirror(catalog, stranger)
    mirror.catch_up()
    assert mirror.close() == []
    reports = mirror.poll()
    assert {(report.step, report.event) for report in reports} == {(step, "upload_failed") for step in (1, 2, 3)}
    assert all("another name" in report.detail for report in reports)
    assert keys(store) == ["job/owner"]
    assert store.read("job/owner") == b"order of the data"


# ---- fetching back


def test_damaged_copies_are_passed_over_with_the_reason(
    catalog: CheckpointCatalog, elsewhere: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody
) -> None:
    for step in (1, 2, 3):
        remote.upload(catalog, step)
    (weights,) = [key for key in keys(store) if "step-00000003" in key and key.endswith("weights")]
    store.put(weights, bytes(len(store.read(weights))))
    store.put("job/step-00000002/manifest.json", store.read("job/step-00000002/manifest.json")[:-9])
    store.put("job/step-00000009/manifest.json", store.read("job/step-00000001/manifest.json"))
    rejected: list[tuple[int, str]] = []
    fetched = remote.fetch_newest(elsewhere, lambda *one: rejected.append(one))
    assert fetched == catalog.get(1)
    assert [step for step, _ in rejected] == [9, 3, 2]
    assert "that of step 1" in rejected[0][1]
    assert "does not match its hash" in rejected[1][1]
    assert "manifest is damaged" in rejected[2][1]
    assert marks(elsewhere) == [(1, "mark")]
    assert [entry.name for entry in elsewhere.directory.iterdir()] == ["step-00000001"]


def test_a_copy_that_lacks_a_file_is_damaged(
    catalog: CheckpointCatalog, elsewhere: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody
) -> None:
    remote.upload(catalog, 3)
    store.delete(next(key for key in keys(store) if key.endswith("optimizer")))
    with pytest.raises(DamagedArtifact, match="optimizer"):
        remote.fetch(elsewhere, 3)
    assert elsewhere.steps() == []


def test_foreign_copies_are_not_fetched(
    catalog: CheckpointCatalog, elsewhere: CheckpointCatalog, remote: RemoteCheckpoints
) -> None:
    for step in (1, 2, 3):
        remote.upload(catalog, step)

    def accept(manifest: CheckpointManifest) -> str | None:
        return "it was trained by another spec" if manifest.step > 1 else None

    rejected: list[tuple[int, str]] = []
    fetched = remote.fetch_newest(elsewhere, lambda *one: rejected.append(one), accept)
    assert fetched == catalog.get(1)
    assert rejected == [(step, "it was trained by another spec") for step in (3, 2)]


def test_a_copy_cannot_be_fetched_to_places_outside(
    catalog: CheckpointCatalog, elsewhere: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody
) -> None:
    crafted = catalog.get(1)
    crafted = crafted.model_copy(update={"files": {"../../evil": crafted.files["weights"]}})
    store.put("job/step-00000001/manifest.json", dump_manifest(crafted).encode())
    with pytest.raises(DamagedArtifact, match="not the name of a file"):
        remote.fetch(elsewhere, 1)


def test_what_does_not_fit_is_not_begun(
    catalog: CheckpointCatalog, remote: RemoteCheckpoints, small_disk: Path
) -> None:
    staging = catalog.stage(4)
    (staging / "weights").write_bytes(b"w" * 300_000)
    catalog.commit(4, tokens_seen=1, cursor=1, spec_fingerprint="", order_fingerprint="", model_fingerprint="")
    remote.upload(catalog, 4)
    small = CheckpointCatalog(small_disk / "checkpoints")
    with pytest.raises(OutOfSpace, match="checkpoint 4 from the store needs 300 kB"):
        remote.fetch_newest(small)
    assert list(small_disk.iterdir()) == []


# ---- in the background


def test_copies_are_made_and_reported(
    catalog: CheckpointCatalog, elsewhere: CheckpointCatalog, remote: RemoteCheckpoints
) -> None:
    mirror = Mirror(catalog, remote)
    mirror.copy(2)
    mirror.copy(3)
    mirror.copy(7)  # never was
    assert mirror.close() == []
    reports = mirror.poll()
    assert [(one.step, one.event, one.size_bytes) for one in reports] == [
        (step, "uploaded", catalog.get(step).size_bytes) for step in (2, 3)
    ]
    assert mirror.poll() == []
    assert remote.fetch_newest(elsewhere) == catalog.get(3)


def test_the_next_run_catches_up(catalog: CheckpointCatalog, remote: RemoteCheckpoints) -> None:
    remote.upload(catalog, 2)
    mirror = Mirror(catalog, remote)
    mirror.catch_up()
    assert mirror.close() == []
    assert [one.step for one in mirror.poll()] == [1, 3]
    assert remote.steps() == [1, 2, 3]


def test_deletions_follow(catalog: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody) -> None:
    mirror = Mirror(catalog, remote)
    mirror.catch_up()
    for step in (1, 2):
        catalog.delete(step)
        mirror.delete(step)
    assert mirror.close() == []
    assert remote.steps() == [3]
    assert not any("step-00000001" in key or "step-00000002" in key for key in keys(store))


def test_what_was_rolled_back_is_not_what_a_new_machine_goes_on_from(
    make_run: MakeRun, elsewhere: CheckpointCatalog, remote: RemoteCheckpoints
) -> None:
    run, catalog = _uploaded(make_run, remote)
    rollback(run, 1)
    save(catalog, 2, "new")
    _mirror_once(catalog, remote)
    assert remote.steps() == [1, 2]
    assert remote.fetch_newest(elsewhere) == catalog.get(2)
    assert marks(elsewhere) == [(2, "new")]
    set_aside(run, [1, 2])
    _mirror_once(catalog, remote)
    assert remote.steps() == []


def test_copies_of_what_was_set_aside_go_even_where_it_is_gone_itself(
    make_run: MakeRun, remote: RemoteCheckpoints
) -> None:
    run, catalog = _uploaded(make_run, remote)
    rollback(run, 1)
    shutil.rmtree(run.checkpoints / "abandoned-1")
    _mirror_once(catalog, remote)
    assert remote.steps() == [1]


def test_the_last_copy_of_what_was_saved_after_going_back_stays(make_run: MakeRun, remote: RemoteCheckpoints) -> None:
    run = make_run()
    catalog = CheckpointCatalog(run.checkpoints)
    rollback(run, 1)
    for step in (2, 3):
        save(catalog, step, "new")
        remote.upload(catalog, step)
    shutil.rmtree(catalog.path(3))  # lost here
    _mirror_once(catalog, remote)
    assert remote.steps() == [1, 2, 3]


def test_lines_without_identities_go_by_time(make_run: MakeRun, remote: RemoteCheckpoints) -> None:
    run, catalog = _uploaded(make_run, remote)
    line = rollback(run, 1)
    assert line is not None
    Lineage(abandoned=(line.model_copy(update={"identities": ()}),)).write(run.path)  # as it was written before
    save(catalog, 2, "new")
    remote.upload(catalog, 2)
    shutil.rmtree(catalog.path(2))
    _mirror_once(catalog, remote)
    assert remote.steps() == [1, 2]


def test_a_new_machine_deletes_nothing_of_what_it_does_not_hold(
    catalog: CheckpointCatalog, elsewhere: CheckpointCatalog, remote: RemoteCheckpoints
) -> None:
    for step in (1, 2, 3):
        remote.upload(catalog, step)
    remote.fetch_newest(elsewhere)
    _mirror_once(elsewhere, remote)
    assert remote.steps() == [1, 2, 3]


def _uploaded(make_run: MakeRun, remote: RemoteCheckpoints) -> tuple[RunDirectory, CheckpointCatalog]:
    """A run with three checkpoints, and copies of all of them."""
    run = make_run()
    catalog = CheckpointCatalog(run.checkpoints)
    for step in (1, 2, 3):
        remote.upload(catalog, step)
    return run, catalog


def _mirror_once(catalog: CheckpointCatalog, remote: RemoteCheckpoints) -> None:
    mirror = Mirror(catalog, remote)
    mirror.catch_up()
    assert mirror.close() == []


def test_an_outage_is_waited_out(catalog: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody) -> None:
    store.broken = True
    mirror = Mirror(catalog, remote, first_pause_seconds=0.01)
    mirror.catch_up()
    wait_for(lambda: store.attempts >= 3)
    (report,) = mirror.poll()  # said once, not at each attempt
    assert (report.step, report.event) == (1, "upload_failed")
    assert "out of order; will be tried again" in report.detail
    store.broken = False
    assert mirror.close() == []
    assert [(one.step, one.event) for one in mirror.poll()] == [(step, "uploaded") for step in (1, 2, 3)]
    assert remote.steps() == [1, 2, 3]


def test_an_outage_that_does_not_end_is_not_waited_for(
    catalog: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody
) -> None:
    store.broken = True
    mirror = Mirror(catalog, remote, first_pause_seconds=0.01)
    mirror.catch_up()
    mirror.copy(3)  # asked for twice
    started = time.monotonic()
    assert mirror.close(timeout_seconds=0.2) == [1, 2, 3]
    assert time.monotonic() - started < 5
    attempts = store.attempts
    time.sleep(0.1)
    assert store.attempts == attempts  # it has ended


def test_a_step_is_missing_until_its_last_copy_is_made(
    catalog: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody
) -> None:
    mirror = Mirror(catalog, remote, first_pause_seconds=0.01)

    def asked_again_meanwhile(key: str) -> None:
        if key.endswith("manifest.json"):
            catalog.record_metrics(1, {"gain": 0.1})
            mirror.copy(1)
            store.before_put = out_of_order

    def out_of_order(key: str) -> None:
        raise StoreUnavailable("the store failed: out of order", where=key)

    store.before_put = asked_again_meanwhile
    mirror.copy(1)
    wait_for(lambda: remote.steps() == [1])
    assert mirror.close(timeout_seconds=0.2) == [1]
    assert remote.manifest(1).metrics == {}


def test_a_damaged_checkpoint_does_not_hold_up_the_others(
    catalog: CheckpointCatalog, remote: RemoteCheckpoints
) -> None:
    (catalog.path(1) / "manifest.json").write_text("{}")
    (catalog.path(2) / "weights").unlink()
    mirror = Mirror(catalog, remote)
    mirror.catch_up()
    assert mirror.close(timeout_seconds=20) == []
    reports = {one.step: one for one in mirror.poll()}
    assert [reports[step].event for step in (1, 2, 3)] == ["upload_failed", "upload_failed", "uploaded"]
    assert "manifest is damaged" in reports[1].detail
    assert "weights: the file is missing" in reports[2].detail
    assert remote.steps() == [3]


@pytest.mark.parametrize("name", ["optimizer", "weights", "manifest.json"])
def test_retention_may_delete_what_is_being_copied(
    catalog: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody, name: str
) -> None:
    mirror, deleted = Mirror(catalog, remote, first_pause_seconds=0.01), threading.Event()

    def delete_here(key: str) -> None:
        if key.startswith("job/step-00000001/") and key.endswith(name):
            store.before_put = lambda key: None
            catalog.delete(1)
            mirror.delete(1)
            deleted.set()

    store.before_put = delete_here
    mirror.copy(1)
    assert deleted.wait(20)
    mirror.copy(3)
    assert mirror.close() == []
    assert [one for one in mirror.poll() if one.event == "upload_failed"] == []
    assert remote.steps() == [3]
    assert not any("step-00000001" in key for key in keys(store))


def test_retention_and_copying_side_by_side(tmp_path: Path, remote: RemoteCheckpoints, store: Moody) -> None:
    """Forty saves with the last two kept: in the end the store holds what the run holds, byte for byte."""
    run = RunDirectory(tmp_path / "run")
    catalog = CheckpointCatalog(run.checkpoints)
    mirror = Mirror(catalog, remote, first_pause_seconds=0.001)
    for step in range(1, 41):
        save(catalog, step, "x")
        mirror.copy(step)
        for old in catalog.steps()[:-2]:
            catalog.delete(old)
            mirror.delete(old)
        store.broken = step % 7 == 0
    store.broken = False
    assert mirror.close() == []
    assert remote.steps() == catalog.steps() == [39, 40]
    back = CheckpointCatalog(tmp_path / "back")
    for step in (39, 40):
        assert remote.fetch(back, step) == catalog.get(step)
    assert store.list("job") == sorted(
        [
            StoredObject("job/owner", len("order of the data")),
            *(
                StoredObject(f"job/step-000000{step}/{part}", (catalog.path(step) / Path(part).name).stat().st_size)
                for step in (39, 40)
                for part in (
                    "manifest.json",
                    *(f"{catalog.get(step).identity}/{name}" for name in catalog.get(step).files),
                )
            ),
        ],
        key=lambda one: one.key,
    )


def test_closing_waits_for_a_copy_in_progress(
    catalog: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody
) -> None:
    begun = threading.Event()

    def slowly(key: str) -> None:
        begun.set()
        time.sleep(0.05)

    store.before_put = slowly
    mirror = Mirror(catalog, remote)
    mirror.copy(1)
    assert begun.wait(10)
    assert mirror.close() == []
    assert remote.steps() == [1]


def test_the_owner_record_survives_a_store_that_was_emptied(
    catalog: CheckpointCatalog, remote: RemoteCheckpoints, store: Moody
) -> None:
    _mirror_once(catalog, remote)
    shutil.rmtree(store.root)
    _mirror_once(catalog, remote)
    assert store.read("job/owner") == b"order of the data"
    assert remote.steps() == [1, 2, 3]
