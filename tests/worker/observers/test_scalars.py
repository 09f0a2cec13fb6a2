"""Reports as numbers, and who is asked for."""

from __future__ import annotations

import importlib.util

import pytest
from tests.worker.conftest import MakeContext, step_report

from steep.spec.errors import InvalidInput
from steep.spec.extras import install_extra
from steep.spec.reports import CheckpointReport, EvaluationReport, NoticeReport, ProgressReport, StageReport
from steep.spec.stages import Stage
from steep.worker.observers.build import observers_for
from steep.worker.observers.scalars import ScalarObserver


class Remembering(ScalarObserver):
    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log(self, scalars: dict[str, float], step: int) -> None:
        self.logged.append((step, scalars))


def test_numbers_are_passed_on_and_words_are_not() -> None:
    observer = Remembering()
    observer.stage(StageReport(stage=Stage.TRAIN, event="started"))
    observer.progress(ProgressReport(stage=Stage.TRAIN, what="x", done=1))
    observer.notice(NoticeReport(code="x", message="x"))
    observer.checkpoint(CheckpointReport(step=1, event="deleted"))
    assert observer.logged == []
    observer.step(step_report(1))
    observer.step(step_report(2, mfu=0.25, peak_memory_bytes=7))
    observer.evaluation(EvaluationReport(step=2, tokens_seen=1, domain_bpb={"a": 1.5}, general_bpb={"b": 1.25}))
    observer.checkpoint(CheckpointReport(step=2, event="saved", stall_seconds=0.5))
    assert [step for step, _ in observer.logged] == [1, 2, 2, 2]
    assert "train/mfu" not in observer.logged[0][1]
    assert observer.logged[1][1] == {
        "train/loss": 2.0,
        "train/learning_rate": 1e-3,
        "train/gradient_norm": 0.5,
        "train/tokens_per_second": 1e3,
        "train/mfu": 0.25,
        "train/peak_memory_bytes": 7.0,
    }
    assert observer.logged[2][1] == {"domain/a": 1.5, "general/b": 1.25}
    assert observer.logged[3][1] == {"checkpoint/stall_seconds": 0.5}


def test_nobody_is_asked_for_unless_the_environment_says_so(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context()
    monkeypatch.delenv("STEEP_OBSERVERS", raising=False)
    assert observers_for(context.run, context.spec) == ()
    monkeypatch.setenv("STEEP_OBSERVERS", " , ")
    assert observers_for(context.run, context.spec) == ()


def test_an_unknown_one_is_refused(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context()
    monkeypatch.setenv("STEEP_OBSERVERS", "tensorbord")
    with pytest.raises(InvalidInput, match="no observer 'tensorbord'") as refused:
        observers_for(context.run, context.spec)
    assert "tensorboard" in str(refused.value.cure)


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_one_whose_library_is_missing_says_how_to_get_it(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    context = make_context()
    monkeypatch.setenv("STEEP_OBSERVERS", name)
    with pytest.raises(InvalidInput, match=f"needs a library that is not installed \\({name}\\)") as refused:
        observers_for(context.run, context.spec)
    assert refused.value.cure == install_extra(name)
