"""A checkpoint is measured later, by a job of its own, whose numbers go to the checkpoint. With real workers: test_jobs.py."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.serving import serving
from tests.server.shelving import Shelf

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.later import LaterEvaluation, prepare_evaluation
from steep.artifacts.manifest import CheckpointManifest
from steep.server.evaluating import record_scores
from steep.spec.api.checkpoints import EvaluationRequest
from steep.spec.errors import DamagedArtifact, InvalidInput, InvalidSpec, NotFound
from steep.spec.events import EventKind
from steep.spec.job import JobSpec
from steep.spec.states import State


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    one = Shelf(tmp_path)
    yield one
    one.service.close()


def ordered(shelf: Shelf, job: str, step: int) -> str:
    """An evaluation whose worker has written down what it measured."""
    spec = JobSpec.model_validate({"name": "later", "base": "org/x", "corpus": {"sources": ["hf://org/x"]}})
    new = shelf.store.jobs.submit(spec, shelf.now, parent=(job, step), kind="evaluation")[0].id
    run = prepare_evaluation(shelf.service.run(job), step, shelf.service.settings.run_directory(new), spec)
    (run.path / "scores.json").write_text(json.dumps({"scores": {"quiz": {"acc": 0.5, "nothing": "NaN"}}}))
    return new


def test_what_was_measured_is_written_down_once(shelf: Shelf) -> None:
    job = shelf.job(10, 20)
    evaluation = ordered(shelf, job, 10)
    before = len(shelf.events(job, EventKind.EVALUATED))
    for _ in range(2):  # the server was killed after the first time
        record_scores(shelf.service, evaluation)
    scores = shelf.views(job)[10].scores
    assert scores["quiz"]["acc"] == 0.5
    assert math.isnan(scores["quiz"]["nothing"])
    assert shelf.views(job)[20].scores == {}
    assert len(shelf.events(job, EventKind.EVALUATED)) == before + 1
    record_scores(shelf.service, job)  # which trains
    assert shelf.store.jobs.branched_at(job) == set()  # measuring it keeps nobody from deleting it


def test_a_checkpoint_that_is_gone_has_no_numbers(shelf: Shelf) -> None:
    job = shelf.job(10)
    evaluation = ordered(shelf, job, 10)
    shelf.store.jobs.delete(job, shelf.now)
    record_scores(shelf.service, evaluation)
    with pytest.raises(NotFound):
        shelf.store.checkpoints.get(job, 10)


def test_the_run_that_measures_is_whole_and_shares_the_bytes(shelf: Shelf) -> None:
    job = shelf.job(10)
    evaluation = shelf.service.run(ordered(shelf, job, 10))
    assert LaterEvaluation.read(evaluation.path) == LaterEvaluation(step=10)
    assert evaluation.catalog().verify(10).step == 10
    assert shelf.weights(job, 10).stat().st_nlink == 2
    shelf.service.run(job).catalog().delete(10)
    assert evaluation.catalog().verify(10).step == 10


def test_one_that_is_deleted_while_it_is_shared_leaves_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    job = shelf.job(10)
    run, place = shelf.service.run(job), shelf.service.settings.run_directory("job-new")
    get = CheckpointCatalog.get

    def get_and_lose(catalog: CheckpointCatalog, step: int) -> CheckpointManifest:
        manifest = get(catalog, step)
        shelf.weights(job, 10).unlink()  # the retention of its worker, at the worst moment
        (catalog.path(step) / "manifest.json").unlink()
        catalog.path(step).rmdir()
        return manifest

    monkeypatch.setattr(CheckpointCatalog, "get", get_and_lose)
    with pytest.raises(InvalidInput, match="has just been deleted"):
        prepare_evaluation(run, 10, place, run.spec())
    assert sorted(path.name for path in place.parent.iterdir()) == [job]


def test_what_is_no_order_to_measure_is_told(tmp_path: Path) -> None:
    assert LaterEvaluation.read(tmp_path) is None
    (tmp_path / "later.json").write_text("{}")
    with pytest.raises(DamagedArtifact, match="does not say what to measure"):
        LaterEvaluation.read(tmp_path)


def test_what_it_was_trained_on_may_be_gone(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    job = shelf.job(10, source="steep://files/file-that-was-deleted")
    shelf.service.close()
    with serving(tmp_path) as house, house.client() as client:
        ordered = client.checkpoints.evaluate(job, 10, EvaluationRequest(tasks=("quiz",)))
        assert (ordered.kind, ordered.standing.state) == ("evaluation", State.QUEUED)
        spec = house.service.run(ordered.id).spec()
        assert (spec.evaluation.tasks, spec.corpus.sources[0].path) == (
            ("quiz",),
            "steep://files/file-that-was-deleted",
        )
        with pytest.raises(InvalidSpec, match="no such file"):
            client.jobs.clone(job)
        for wrong in ({"tasks": ["/etc/quiz.yaml"]}, {"texts": ["/etc/passwd"]}, {"texts": ["http://127.0.0.1/x"]}):
            with pytest.raises(InvalidSpec) as caught:
                client.checkpoints.evaluate(job, 10, EvaluationRequest.model_validate(wrong))
            assert (caught.value.where or "").startswith("evaluation.")
        assert len(list((tmp_path / "runs").iterdir())) == 2  # what was refused leaves nothing
