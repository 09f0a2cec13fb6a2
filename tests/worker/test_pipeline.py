"""Stages: in order, skipped when complete for the same inputs, run again when these change, reported when they fail."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from tests.worker.conftest import MakeContext, Recorder

from steep.spec.errors import EXIT_STOPPED, DamagedArtifact, OutOfSpace, Stopped
from steep.spec.stages import ORDER, Stage
from steep.worker import pipeline
from steep.worker.context import Context
from steep.worker.pipeline import run_job, stage_works


class Doubling:
    """A small real stage: doubles the number that the stage before left in the run directory."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.runs = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def inputs(self, context: Context) -> dict[str, Any]:
        return {"number": self._before(context), "seed": context.spec.seed}

    def there(self, context: Context) -> bool:
        return (context.run.path / f"{self.stage}.number").exists()

    def work(self, context: Context) -> dict[str, Any]:
        self.runs += 1
        self.meanwhile()
        result = 2 * self._before(context)
        (context.run.path / f"{self.stage}.number").write_text(str(result))
        return {"result": result}

    def _before(self, context: Context) -> int:
        index = ORDER.index(self.stage)
        name = "start" if index == 0 else str(ORDER[index - 1])
        return int((context.run.path / f"{name}.number").read_text())


Works = dict[Stage, Doubling]


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> Works:
    made = {stage: Doubling(stage) for stage in Stage}
    monkeypatch.setattr(pipeline, "stage_works", lambda: made)
    return made


@pytest.fixture
def context(make_context: MakeContext) -> Context:
    made = make_context()
    start(made, 1)
    return made


def start(context: Context, number: int) -> None:
    context.run.path.mkdir(exist_ok=True)
    (context.run.path / "start.number").write_text(str(number))


def runs(works: Works) -> list[int]:
    return [works[stage].runs for stage in ORDER]


def result(context: Context, stage: Stage = Stage.EXPORT) -> Any:
    done = context.run.completion(stage)
    return None if done is None else done["outputs"]["result"]


def events(heard: Recorder) -> list[tuple[str, str]]:
    said = [(str(report.stage), report.event) for report in heard.stages]
    heard.stages.clear()
    return said


def test_the_stages_of_a_job_are_real_modules_in_order() -> None:
    found = stage_works()
    assert tuple(found) == ORDER
    assert all(callable(work.inputs) and callable(work.work) for work in found.values())


def test_all_stages_run_in_order_and_are_reported(context: Context, works: Works, heard: Recorder) -> None:
    run_job(context)
    assert (result(context), runs(works)) == (64, [1] * 6)
    assert events(heard) == [(str(stage), event) for stage in ORDER for event in ("started", "completed")]


def test_a_complete_job_is_skipped(context: Context, works: Works, heard: Recorder) -> None:
    run_job(context)
    events(heard)
    run_job(context)
    assert runs(works) == [1] * 6
    assert events(heard) == [(str(stage), "skipped") for stage in ORDER]
    assert heard.codes() == []


def test_a_stage_whose_result_is_gone_runs_again(context: Context, works: Works, heard: Recorder) -> None:
    run_job(context)
    (context.run.path / "export.number").unlink()
    run_job(context)
    assert {stage: work.runs for stage, work in works.items()} == {
        stage: 1 + (stage == Stage.EXPORT) for stage in Stage
    }
    assert (context.run.path / "export.number").exists()


def test_changed_inputs_run_the_stage_and_the_later_ones_again(context: Context, works: Works, heard: Recorder) -> None:
    run_job(context)
    (context.run.path / "assess.number").write_text("100")  # what train takes in
    run_job(context)
    assert runs(works) == [1, 1, 2, 2, 2, 2]
    assert result(context) == 1600
    assert heard.codes() == ["stage_again"] * 4
    assert heard.notices[0].message.startswith("train runs again")


def test_a_change_that_leaves_a_stages_result_alone_ends_there(context: Context, works: Works) -> None:
    run_job(context)
    (context.run.path / "stages" / "train.json").unlink()
    run_job(context)
    assert runs(works) == [1, 1, 2, 1, 1, 1]


def test_another_spec_runs_what_depends_on_it(context: Context, works: Works, make_context: MakeContext) -> None:
    run_job(context)
    run_job(make_context(tags=["a word that changes nothing"]))
    assert runs(works) == [1] * 6
    run_job(make_context(seed=18))
    assert runs(works) == [2] * 6


def test_until_ends_after_that_stage(context: Context, works: Works) -> None:
    run_job(context, until=Stage.ASSESS)
    assert runs(works) == [1, 1, 0, 0, 0, 0]
    run_job(context, until=Stage.ASSESS)
    assert runs(works) == [1, 1, 0, 0, 0, 0]
    run_job(context)
    assert runs(works) == [1] * 6


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (DamagedArtifact("rotten", where="x"), "failed"),
        (RuntimeError("a defect"), "failed"),
        (KeyboardInterrupt(), "failed"),
        (Stopped("stopped at step 5: SIGTERM was received"), "stopped"),
    ],
)
def test_a_stage_that_fails_or_is_stopped_is_reported_and_runs_again(
    context: Context, works: Works, heard: Recorder, error: BaseException, event: str
) -> None:
    def fail() -> None:
        raise error

    works[Stage.TRAIN].meanwhile = fail
    with pytest.raises(type(error)) as raised:
        run_job(context)
    assert raised.value is error
    failed = heard.stages[-1]
    assert (failed.stage, failed.event, failed.detail) == (Stage.TRAIN, event, str(error))
    assert context.run.completion(Stage.TRAIN) is None
    assert runs(works) == [1, 1, 1, 0, 0, 0]
    works[Stage.TRAIN].meanwhile = lambda: None
    run_job(context)
    assert (result(context), runs(works)) == (64, [1, 1, 2, 1, 1, 1])


def test_a_full_disk_pauses_the_run_whatever_was_being_written(context: Context, works: Works, heard: Recorder) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    works[Stage.SELECT].meanwhile = fail
    with pytest.raises(OutOfSpace, match="the disk is full") as full:
        run_job(context)
    assert (full.value.exit_code, heard.stages[-1].event) == (EXIT_STOPPED, "stopped")
    works[Stage.SELECT].meanwhile = lambda: None
    run_job(context)
    assert result(context) == 64


def test_a_request_to_stop_is_heard_between_stages(works: Works, make_context: MakeContext, heard: Recorder) -> None:
    asked: list[str] = []
    context = make_context(should_stop=lambda: asked[0] if asked else None)
    start(context, 1)
    works[Stage.ASSESS].meanwhile = lambda: asked.append("SIGTERM was received")
    with pytest.raises(Stopped, match="stopped before train: SIGTERM was received") as stopped:
        run_job(context)
    assert stopped.value.exit_code == 3
    assert "same command" in str(stopped.value.cure)
    assert (runs(works), result(context, Stage.ASSESS)) == ([1, 1, 0, 0, 0, 0], 4)  # the stage came to its end
    asked.clear()
    run_job(context)
    assert (runs(works), result(context)) == ([1] * 6, 64)


def test_a_damaged_completion_is_named(context: Context, works: Works) -> None:
    run_job(context)
    record = context.run.path / "stages" / "select.json"
    record.write_text(json.dumps({"stage": "select"}))
    with pytest.raises(DamagedArtifact, match=r"select\.json"):
        run_job(context)
    record.unlink()
    run_job(context)
    assert runs(works) == [1, 1, 1, 1, 2, 1]
