"""Measure one checkpoint of another run on further tasks and texts; see `artifacts/later.py`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from steep.artifacts.files import full_disk_stops
from steep.artifacts.later import LaterEvaluation, Scores, let_go, read_scores, write_scores
from steep.spec.errors import InvalidInput, Stopped
from steep.spec.job import Source
from steep.spec.reports import StageReport
from steep.spec.stages import Stage
from steep.worker.context import Context

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from steep.corpus.tokenize import CorpusTokenizer


def evaluate_later(context: Context, order: LaterEvaluation) -> None:
    """Measure it, write it down, and let go of what was shared. Done before, it does nothing.

    Raises:
        Stopped: asked to stop; the same call begins anew.
        InvalidInput: a task is unknown, or a text holds none.
        DamagedArtifact: the checkpoint's bytes are wrong.
    """
    if read_scores(context.run) is None:
        started = time.monotonic()
        context.observer.stage(StageReport(stage=Stage.EVALUATE, event="started"))
        with full_disk_stops(context.run.path):
            write_scores(context.run, _measure(context, order.step))
        seconds = time.monotonic() - started
        context.observer.stage(StageReport(stage=Stage.EVALUATE, event="completed", seconds=seconds))
    let_go(context.run)


def _measure(context: Context, step: int) -> Scores:
    """Texts on the base and on the checkpoint, tasks on the checkpoint."""
    from steep.corpus.sources import name_sources
    from steep.corpus.tokenize import CorpusTokenizer
    from steep.evaluate.tasks import evaluate_tasks
    from steep.worker.weights import RunModels

    spec = context.spec.evaluation
    texts = name_sources(spec.general)
    models, tokenizer = RunModels(context), CorpusTokenizer.load(context.tokenizer)
    base = {name: _bpb(context, models.load("base", 0), tokenizer, name, source) for name, source in texts.items()}
    model = models.load("checkpoint", step)
    scores: Scores = {}
    for name, source in texts.items():
        bpb = _bpb(context, model, tokenizer, name, source)
        scores[f"text:{name}"] = {"bpb": bpb, "base_bpb": base[name], "gain": base[name] - bpb}
    for number, task in enumerate(spec.tasks):
        _go_on(context)
        context.progress(Stage.EVALUATE)("tasks measured", number, len(spec.tasks))
        scores |= evaluate_tasks(model, context.tokenizer, (task,), limit=spec.task_limit)
    return scores


def _bpb(context: Context, model: PreTrainedModel, tokenizer: CorpusTokenizer, name: str, source: Source) -> float:
    from steep.model.score import score_text

    _go_on(context)
    score = score_text(model, tokenizer, _texts(name, source), max_tokens=context.spec.evaluation.max_tokens)
    if score.text_bytes == 0:
        raise InvalidInput("holds no text", where=source.path, cure="Give a source with text in it.")
    return score.bpb


def _texts(name: str, source: Source) -> Iterator[str]:
    from steep.corpus.document import Document
    from steep.corpus.extract import extract
    from steep.corpus.sources import list_files

    for file in list_files(name, source):
        yield from (item.text for item in extract(file, source) if isinstance(item, Document))


def _go_on(context: Context) -> None:
    if reason := context.should_stop():
        raise Stopped(f"stopped while evaluating: {reason}", cure="Run the same command to begin it anew.")
