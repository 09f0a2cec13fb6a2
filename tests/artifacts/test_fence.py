"""A fenced attempt makes nothing count any more: no checkpoint, no stage, no deletion, no copy in a store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from crash_driver import save
from tests.artifacts.conftest import MakeRun

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.fence import Fence
from steep.artifacts.lineage import set_aside
from steep.artifacts.mirror import Mirror, RemoteCheckpoints
from steep.artifacts.rundir import RunDirectory
from steep.artifacts.store import DirectoryStore
from steep.spec.errors import EXIT_STOPPED, Fenced
from steep.spec.stages import Stage


def test_a_later_attempt_shuts_the_earlier_out(tmp_path: Path) -> None:
    first, second = Fence(tmp_path / "fence", 1), Fence(tmp_path / "fence", 2)
    first.check()  # nothing was fenced off yet
    first.enter()
    second.enter()
    second.check()
    with pytest.raises(Fenced, match="attempt 1 may write nothing more: attempt 2 works on the run now") as fenced:
        first.check()
    assert fenced.value.exit_code == EXIT_STOPPED
    with pytest.raises(Fenced):
        first.enter()
    assert second.height() == 2


def test_the_server_moves_it_before_the_next_attempt_begins(tmp_path: Path) -> None:
    first = Fence(tmp_path / "fence", 1)
    first.enter()
    Fence(tmp_path / "fence").move(2)
    with pytest.raises(Fenced):
        first.check()
    Fence(tmp_path / "fence", 2).enter()


def test_it_only_rises(tmp_path: Path) -> None:
    fence = Fence(tmp_path / "fence")
    for number in (3, 1, 2, 3):
        fence.move(number)
    assert fence.height() == 3
    assert fence.path.read_text().split() == ["3"]


def test_it_rises_to_the_highest_whoever_moves_it_at_once(tmp_path: Path) -> None:
    movers = [threading.Thread(target=Fence(tmp_path / "fence").move, args=(number,)) for number in range(1, 33)]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join()
    assert Fence(tmp_path / "fence").height() == 32


@pytest.mark.parametrize("torn", ["\n", "\n1", "\n12", "\n\0\0\0", "x"])
def test_half_a_line_counts_for_nothing_and_spoils_nothing(tmp_path: Path, torn: str) -> None:
    fence = Fence(tmp_path / "fence", 4)
    fence.enter()
    with open(fence.path, "a") as stream:
        stream.write(torn)  # whoever let attempt 120 in was killed
    assert fence.height() == 4
    fence.check()
    fence.move(120)
    assert fence.height() == 120
    with pytest.raises(Fenced):
        fence.check()


def test_a_run_without_a_service_has_no_fence(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.fence.enter()
    run.fence.close("nobody says so")
    run.fence.check()
    assert not run.fence.path.exists()
    Fence(run.fence.path).move(3)  # a service had the run before
    run.fence.check()
    run.complete(Stage.PREPARE, "fingerprint", {})


def test_what_the_server_says_holds_at_once(tmp_path: Path) -> None:
    fence = Fence(tmp_path / "fence", 1)
    fence.enter()
    fence.close("its token was revoked")
    with pytest.raises(Fenced, match="its token was revoked"):
        fence.check()


def fenced_off(run: RunDirectory) -> tuple[RunDirectory, CheckpointCatalog]:
    """The run and its catalog as attempt 1 sees them, after attempt 2 began."""
    mine = RunDirectory(run.path, attempt=1)
    catalog = mine.catalog()
    Fence(run.fence.path).move(2)
    return mine, catalog


def test_no_checkpoint_appears_and_none_goes(make_run: MakeRun) -> None:
    run = make_run()
    mine, catalog = fenced_off(run)
    before = {path: path.read_bytes() for path in sorted(run.checkpoints.rglob("*")) if path.is_file()}
    for work in (
        lambda: save(catalog, 4, "new"),
        lambda: save(catalog, 3, "other"),
        lambda: catalog.delete(1),
        lambda: catalog.record_metrics(2, {"bpb": 1.0}),
        lambda: catalog.clean(),
        lambda: set_aside(mine, [3]),
    ):
        with pytest.raises(Fenced):
            work()
    after = {path: path.read_bytes() for path in sorted(run.checkpoints.rglob("*")) if path.is_file()}
    assert after == before


def test_a_checkpoint_that_was_being_written_does_not_appear(make_run: MakeRun) -> None:
    run = make_run(steps=(1,))
    mine = RunDirectory(run.path, attempt=1)
    catalog = mine.catalog()
    staging = catalog.stage(2)
    (staging / "weights.bin").write_bytes(b"weights")
    Fence(run.fence.path).move(2)  # while it was written
    with pytest.raises(Fenced):
        catalog.commit(2, tokens_seen=2, cursor=2, spec_fingerprint="", order_fingerprint="", model_fingerprint="")
    assert CheckpointCatalog(run.checkpoints).steps() == [1]


def test_no_stage_is_complete(make_run: MakeRun) -> None:
    mine, _ = fenced_off(make_run())
    with pytest.raises(Fenced):
        mine.complete(Stage.TRAIN, "fingerprint", {})
    assert mine.completion(Stage.TRAIN) is None


@pytest.mark.parametrize("when", ["before", "during"])
def test_the_store_belongs_to_the_later_attempt(make_run: MakeRun, tmp_path: Path, when: str) -> None:
    run = make_run()
    mine = RunDirectory(run.path, attempt=1)
    catalog = mine.catalog()
    store = Interrupted(tmp_path / "store")
    remote = RemoteCheckpoints(store, "job", "owner")
    remote.upload(catalog, 1)
    if when == "during":
        store.at_data = lambda: Fence(run.fence.path).move(2)
    else:
        Fence(run.fence.path).move(2)
    mirror = Mirror(catalog, remote)
    mirror.copy(2)
    mirror.delete(1)
    assert mirror.close(20) == [2]
    assert remote.steps() == [1]
    assert mirror.poll() == []


class Interrupted(DirectoryStore):
    """Something happens while a checkpoint's data is copied."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.at_data: Callable[[], None] = lambda: None

    def put(self, key: str, content: Path | bytes, *, if_absent: bool = False) -> bool:
        done = super().put(key, content, if_absent=if_absent)
        if isinstance(content, Path):
            self.at_data()
        return done


def test_asking_costs_nearly_nothing(tmp_path: Path) -> None:
    fence = Fence(tmp_path / "fence", 40)
    for number in range(1, 41):
        fence.move(number)
    started = time.process_time()
    for _ in range(1000):
        fence.check()
    assert (time.process_time() - started) / 1000 < 0.0005
