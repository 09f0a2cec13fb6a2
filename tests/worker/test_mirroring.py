"""While a run trains, its store follows; a store that fails never ends it."""

from __future__ import annotations

from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from crash_driver import save
from tests.worker.conftest import MakeContext, Recorder, step_report

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.mirror import Mirror, RemoteCheckpoints
from steep.artifacts.store import DirectoryStore, open_store
from steep.corpus.order import DataOrder, Stream
from steep.spec.errors import InvalidInput, OutOfSpace
from steep.spec.reports import CheckpointReport, NoticeReport
from steep.train.schedule import Schedule
from steep.train.setup import TrainingSetup
from steep.worker.mirroring import mirrored

if TYPE_CHECKING:
    from steep.train.observer import Observer
    from steep.worker.context import Context

ORDER = DataOrder([Stream("text", 1000, 1.0, "fingerprint")], sequence_tokens=10, seed=17)
OWNER = ORDER.fingerprint


def catalog_of(context: Context) -> CheckpointCatalog:
    return CheckpointCatalog(context.run.checkpoints)


def setup_of(context: Context, spec_fingerprint: str = "spec") -> TrainingSetup:
    """A training to which the checkpoints of `save` belong, unless it is another spec's."""
    return TrainingSetup(
        load_model=lambda: pytest.fail("nothing is trained here"),
        device=torch.device("cpu"),
        datasets={},
        order=ORDER,
        sequences_per_step=1,
        microbatch_sequences=1,
        schedule=Schedule(1e-3, 10),
        checkpoints=catalog_of(context),
        spec_fingerprint=spec_fingerprint,
        adopts=lambda manifest: manifest.spec_fingerprint == spec_fingerprint,
    )


def train(context: Context, observer: Observer, *steps: int) -> None:
    """What training does to checkpoints: save, say so, and let all but the newest two go."""
    catalog = catalog_of(context)
    for step in steps:
        save(catalog, step, context.run.path.name)
        observer.checkpoint(CheckpointReport(step=step, event="saved"))
        for old in catalog.steps()[:-2]:
            catalog.delete(old)
            observer.checkpoint(CheckpointReport(step=old, event="deleted"))
        observer.step(step_report(step + 1))


def uploaded(heard: Recorder) -> set[int]:
    return {one.step for one in heard.checkpoints if one.event == "uploaded"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "store"


@pytest.fixture
def remote(place: Path) -> RemoteCheckpoints:
    return RemoteCheckpoints(open_store(str(place)), "job", OWNER)


def test_without_a_store_nothing_is_in_between(make_context: MakeContext, heard: Recorder) -> None:
    context = make_context()
    with mirrored(context, setup_of(context), heard) as listening:
        assert listening is heard
    assert (heard.checkpoints, heard.notices) == ([], [])


def test_the_store_follows(make_context: MakeContext, heard: Recorder, place: Path, remote: RemoteCheckpoints) -> None:
    context = make_context(checkpoints={"store": str(place)})
    with mirrored(context, setup_of(context), heard) as listening:
        train(context, listening, 1, 2, 3)
        listening.notice(NoticeReport(code="anything", message="is passed on"))
    assert remote.steps() == catalog_of(context).steps() == [2, 3]
    assert {2, 3} <= uploaded(heard)
    assert [one.step for one in heard.checkpoints if one.event == "saved"] == [1, 2, 3]
    assert heard.codes() == ["anything"]


def test_a_new_machine_goes_on_from_the_newest_copy(
    make_context: MakeContext, heard: Recorder, place: Path, tmp_path: Path
) -> None:
    context = make_context(checkpoints={"store": str(place)})
    with mirrored(context, setup_of(context), heard) as listening:
        train(context, listening, 1, 2, 3)
    new = make_context(tmp_path / "new machine", checkpoints={"store": str(place)})
    with mirrored(new, setup_of(new), heard):
        assert catalog_of(new).verify(3) == catalog_of(context).get(3)
        assert catalog_of(new).steps() == [3]
    assert heard.codes() == ["fetched"]
    assert "checkpoint 3 was fetched" in heard.notices[0].message


def test_copies_of_another_spec_stay_in_the_store(
    make_context: MakeContext, heard: Recorder, place: Path, tmp_path: Path
) -> None:
    context = make_context(checkpoints={"store": str(place)})
    with mirrored(context, setup_of(context), heard) as listening:
        train(context, listening, 1, 2, 3)
    new = make_context(tmp_path / "new machine", checkpoints={"store": str(place)})
    with mirrored(new, setup_of(new, "another spec"), heard):
        assert catalog_of(new).steps() == []
    assert {one.step for one in heard.checkpoints if one.event == "rejected"} == {2, 3}


def test_a_run_with_checkpoints_of_its_own_fetches_none(
    make_context: MakeContext, heard: Recorder, place: Path, remote: RemoteCheckpoints, tmp_path: Path
) -> None:
    other = make_context(tmp_path / "other")
    save(catalog_of(other), 9, "other")
    remote.upload(catalog_of(other), 9)
    context = make_context(checkpoints={"store": str(place)})
    save(catalog_of(context), 1, "own")
    with mirrored(context, setup_of(context), heard):
        assert catalog_of(context).steps() == [1]
    assert remote.steps() == [1, 9]


def test_a_damaged_newest_copy_is_passed_over(
    make_context: MakeContext, heard: Recorder, place: Path, tmp_path: Path
) -> None:
    context = make_context(checkpoints={"store": str(place)})
    with mirrored(context, setup_of(context), heard) as listening:
        train(context, listening, 1, 2, 3)
    (weights,) = (place / "job" / "step-00000003").rglob("weights")
    weights.write_bytes(weights.read_bytes()[:-1])
    new = make_context(tmp_path / "new machine", checkpoints={"store": str(place)})
    with mirrored(new, setup_of(new), heard):
        assert catalog_of(new).steps() == [2]
    (rejected,) = [one for one in heard.checkpoints if one.event == "rejected"]
    assert rejected.step == 3
    assert "weights" in rejected.detail


def test_what_could_not_be_copied_is_named_and_copied_by_the_next_run(
    make_context: MakeContext,
    heard: Recorder,
    place: Path,
    remote: RemoteCheckpoints,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place.write_text("a file where the store should be: nothing can be put into it")
    context = make_context(checkpoints={"store": str(place)})
    with monkeypatch.context() as hurried:
        hurried.setattr(Mirror, "close", partialmethod(Mirror.close, timeout_seconds=0.3))
        with mirrored(context, setup_of(context), heard) as listening:
            train(context, listening, 1, 2, 3)  # goes on
    assert catalog_of(context).steps() == [2, 3]
    assert heard.codes() == ["store_unavailable", "not_copied"]
    assert "2, 3 are not in" in heard.notices[1].message
    assert all(notice.level == "warning" for notice in heard.notices)
    assert [one.step for one in heard.checkpoints if one.event == "upload_failed"] == [1]
    place.unlink()
    with mirrored(context, setup_of(context), heard):
        pass
    assert remote.steps() == [2, 3]


def test_the_copies_are_closed_when_training_fails(
    make_context: MakeContext, heard: Recorder, place: Path, remote: RemoteCheckpoints
) -> None:
    context = make_context(checkpoints={"store": str(place)})

    def fail() -> None:
        with mirrored(context, setup_of(context), heard) as listening:
            train(context, listening, 1)
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert remote.steps() == [1]
    assert uploaded(heard) == {1}


def test_a_store_of_another_job_is_refused_before_training(
    make_context: MakeContext, heard: Recorder, place: Path
) -> None:
    RemoteCheckpoints(DirectoryStore(place), "job", "order of other data").claim()
    context = make_context(checkpoints={"store": str(place)})
    with (
        pytest.raises(InvalidInput, match="the same name on other data"),
        mirrored(context, setup_of(context), heard),
    ):
        pytest.fail("training began")


def test_a_copy_that_does_not_fit_pauses_the_run(
    make_context: MakeContext, heard: Recorder, place: Path, tmp_path: Path, small_disk: Path
) -> None:
    large = CheckpointCatalog(tmp_path / "large")
    (large.stage(1) / "weights").write_bytes(b"w" * 300_000)
    large.commit(1, tokens_seen=1, cursor=1, spec_fingerprint="spec", order_fingerprint="", model_fingerprint="")
    RemoteCheckpoints(DirectoryStore(place), "job", OWNER).upload(large, 1)
    context = make_context(small_disk / "run", checkpoints={"store": str(place)})
    with (
        pytest.raises(OutOfSpace, match="checkpoint 1 from the store"),
        mirrored(context, setup_of(context), heard),
    ):
        pytest.fail("training began")
