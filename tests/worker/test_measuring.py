"""What is measured again and what is kept when a job's tasks, prompts or budget change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.worker.conftest import MakeContext
from tests.worker.test_records import measured

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.corpus.prepare import PreparedCorpus
from steep.evaluate import tasks as harness
from steep.spec.results import Completion
from steep.worker import evaluate, select
from steep.worker.context import Context


class Weights:
    """Stands where the run's models do; the tasks below do not look at them."""

    def available(self, kind: str, step: int) -> bool:
        return True

    def load_sound(self, *row: object) -> object:
        return row


def with_corpus(context: Context) -> Context:
    """A context whose corpus is prepared, and empty."""
    context.corpus = PreparedCorpus("f", {}, (), {}, {}, {}, {})
    return context


def commit(context: Context, step: int, *files: str) -> None:
    catalog = CheckpointCatalog(context.run.checkpoints)
    staging = catalog.stage(step)
    for name in ("weights-00000.safetensors", *files):
        (staging / name).write_bytes(b"weights")
    prints = {"spec_fingerprint": "s", "order_fingerprint": "o", "model_fingerprint": "m"}
    catalog.commit(step, tokens_seen=step, cursor=step, **prints)


def run_tasks(context: Context, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, dict[str, float]]]:
    """Run the stage's tasks with a harness that answers with the tasks' names; what each record has then."""

    def answer(model: object, tokenizer: str, tasks: tuple[str, ...], limit: int | None = None) -> Any:
        return {Path(task).stem: {"examples": float(limit or 0)} for task in tasks}

    monkeypatch.setattr(harness, "evaluate_tasks", answer)
    evaluate._tasks(context, Weights())  # type: ignore[arg-type]
    return [record.measured.tasks for record in context.records.read()]


def test_other_tasks_are_run_although_there_are_as_many(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = with_corpus(make_context(evaluation={"tasks": ["one"]}))
    first.records.write("base", measured(2.0))
    assert run_tasks(first, monkeypatch) == [{"one": {"examples": 0.0}}]
    other = with_corpus(make_context(evaluation={"tasks": ["other"]}))
    assert run_tasks(other, monkeypatch) == [{"one": {"examples": 0.0}, "other": {"examples": 0.0}}]
    fewer = with_corpus(make_context(evaluation={"tasks": ["other"], "task_limit": 5}))
    assert run_tasks(fewer, monkeypatch)[0]["other"] == {"examples": 5.0}


def test_a_task_file_that_changed_is_another_task(make_context: MakeContext, tmp_path: Path) -> None:
    file = tmp_path / "quiz.yaml"
    file.write_text("task: quiz")
    context = make_context(evaluation={"tasks": [str(file)]})
    before = evaluate.tasks_asked(context)
    assert evaluate.tasks_asked(context) == before
    file.write_text("task: quiz\nnum_fewshot: 2")
    assert evaluate.tasks_asked(context) != before


def test_a_new_table_keeps_the_completions_of_the_same_model(make_context: MakeContext) -> None:
    context = with_corpus(make_context(evaluation={"forgetting_budget": 0.5}))
    context.records.write("base", measured(2.0))
    context.records.write("checkpoint", measured(1.0), step=10, tokens_seen=10)
    commit(context, 10)
    said = (Completion(prompt="p", base="b", selected="s"),)
    select.write_results(context, select.tabulate(context).model_copy(update={"completions": said}))
    wider = with_corpus(make_context(evaluation={"forgetting_budget": 0.9}))
    select.work(wider)
    results = wider.run.results()
    assert results is not None
    assert (results.forgetting_budget, results.completions) == (0.9, said)
    wider.records.write("checkpoint", measured(0.5), step=20, tokens_seen=20)
    commit(wider, 20)
    select.work(wider)
    results = wider.run.results()
    assert results is not None
    assert (results.selected.step if results.selected else None, results.completions) == (20, ())


def test_a_new_model_is_not_said_to_forget(make_context: MakeContext) -> None:
    """Its random weights model general text badly, and training changes that as it likes."""

    def reason(**base: Any) -> str:
        context = with_corpus(make_context(**base))
        context.records.write("base", measured(9.0))
        worse = measured(2.0).model_copy(update={"general": {"self": 1.5}})
        context.records.write("checkpoint", worse, step=10, tokens_seen=10)
        commit(context, 10)
        return select.tabulate(context).selection_reason

    assert "forgetting" in reason()
    assert reason(base={"from_scratch": {}}) == "step 10: the only one that gains (+7.0000 bits per byte)"


def test_an_average_is_measured_only_where_there_is_one(make_context: MakeContext) -> None:
    context = with_corpus(make_context())
    context.__class__ = type("Averaging", (Context,), {"recipe": type("Recipe", (), {"average_steps": 3})()})
    commit(context, 10)
    evaluate._averages(context, Weights())  # type: ignore[arg-type]
    assert context.records.read() == []
