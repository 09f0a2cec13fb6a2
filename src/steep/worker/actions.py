"""Single things that need a model, for whoever may not import one: `python -m steep.worker --action NAME --arguments JSON`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.files import full_disk_stops
from steep.artifacts.rundir import RunDirectory
from steep.spec.errors import InvalidInput
from steep.spec.job import Source
from steep.spec.results import Results, Score
from steep.spec.stages import Stage
from steep.worker.context import Context, this_device

if TYPE_CHECKING:
    from steep.model.score import HoldoutScore
    from steep.worker.weights import RunModels


def act(action: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Do one thing; returns its answer as JSON values.

    Raises:
        InvalidInput: there is no such action, or what it is to work on is wrong.
        OutOfSpace: the disk is full.
    """
    if action not in ACTIONS:
        raise InvalidInput(
            f"there is no action {action!r}", where="--action", cure=f"Choose among {', '.join(ACTIONS)}."
        )
    with full_disk_stops(Path(arguments.get("out") or arguments.get("run") or Path.cwd())):
        return ACTIONS[action](**arguments)


def score(model: str, text: list[str], max_tokens: int, trust_remote_code: bool = False) -> dict[str, Any]:
    """Bits per byte of any model on any text: files and directories, read as a corpus would be.

    Args:
        model: directory or hub id.
        text: paths; each is scored by itself, and all of them together, weighted by their bytes.
        max_tokens: tokens scored of each text at most.
        trust_remote_code: whether code that comes with the model is run.

    Raises:
        InvalidInput: the model does not load, or one of the texts holds none.
    """
    from steep.corpus.tokenize import CorpusTokenizer
    from steep.model.load import load_model
    from steep.model.score import score_text

    loaded = load_model(model, trust_remote_code=trust_remote_code).to(this_device())
    tokenizer = CorpusTokenizer.load(model)
    scores = []
    for path in text:
        scores.append(score_text(loaded, tokenizer, _texts(path), max_tokens=max_tokens))
        if scores[-1].text_bytes == 0:
            raise InvalidInput("holds no text", where=path, cure="Give files with text in them.")
    parts = [
        {"text": path, **_numbers(one), "stopped_early": one.tokens < max_tokens / 2 and _has_more(path, one)}
        for path, one in zip(text, scores, strict=True)
    ]
    return {"model": model, **_numbers(sum(scores[1:], start=scores[0])), "texts": parts}


def _has_more(path: str, score: HoldoutScore) -> bool:
    """Whether a text goes on behind what was scored: its next piece was larger than what was left of the tokens."""
    seen_bytes = 0
    for text in _texts(path):
        seen_bytes += len(text.encode("utf-8", errors="surrogatepass"))
        if seen_bytes > score.text_bytes:
            return True
    return False


def _numbers(score: HoldoutScore) -> dict[str, Any]:
    return {"bpb": score.bpb, "nats": score.nats, "tokens": score.tokens, "text_bytes": score.text_bytes}


def evaluate(run: str, step: int, tasks: list[str]) -> dict[str, Any]:
    """Score one checkpoint of a run, with further tasks where asked, and put it into the run's table."""
    from steep.worker.select import tabulate, with_known_completions, write_results
    from steep.worker.weights import RunModels

    context = _quiet_context(run)
    with context.run.lock():
        manifest = CheckpointCatalog(context.run.checkpoints).get(step)
        model = RunModels(context).load("checkpoint", step)
        measured = context.measure(model, Stage.EVALUATE)
        known = [one for one in context.records.read() if (one.kind, one.step) == ("checkpoint", step)]
        found = known[0].measured.tasks if known else {}
        if tasks:
            from steep.evaluate.tasks import evaluate_tasks

            found = {**found, **evaluate_tasks(model, context.tokenizer, tasks)}
        context.records.write(
            "checkpoint",
            measured.model_copy(update={"tasks": found}),
            step=step,
            tokens_seen=manifest.tokens_seen,
            tasks_asked=known[0].tasks_asked if known else "",
        )
        results = with_known_completions(context, tabulate(context))
        write_results(context, results)
    return _row(results.scores, step).model_dump(mode="json")


def export(run: str, step: int, out: str, alpha: float | None = None, dtype: str | None = None) -> dict[str, Any]:
    """Export one checkpoint of a run, or its mix with the base."""
    from steep.worker.export import export_row
    from steep.worker.select import tabulate
    from steep.worker.weights import RunModels

    context = _quiet_context(run)
    with context.run.lock():
        results, models = tabulate(context), RunModels(context)
        row = _row(results.scores, step)
        if alpha is not None:
            row = _mix(context, models, results, row, alpha)
        return {"out": out, **export_row(context, models, results, row, Path(out), dtype=dtype)}


ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {"score": score, "evaluate": evaluate, "export": export}


def _quiet_context(run: str) -> Context:
    from steep.train.observer import Silent

    directory = RunDirectory.existing(run)
    return Context(run=directory, spec=directory.spec(), observer=Silent(), should_stop=lambda: None)


def _row(scores: tuple[Score, ...], step: int) -> Score:
    found = next((row for row in scores if row.kind == "checkpoint" and row.step == step), None)
    if found is None:
        raise InvalidInput(
            f"checkpoint {step} was not measured", where="step", cure="`steep checkpoints evaluate` measures it."
        )
    return found


def _mix(context: Context, models: RunModels, results: Results, row: Score, alpha: float) -> Score:
    """The row of a checkpoint's mix with the base; one that is not in the table is measured for its model card."""
    from steep.evaluate.compare import score_row

    same = ("interpolation", row.step, alpha)
    known = next((one for one in results.scores if (one.kind, one.step, one.alpha) == same), None)
    if known is not None:
        return known
    base = context.records.base()
    assert base is not None  # the table has it
    measured = context.measure(models.load("interpolation", row.step, alpha), Stage.EXPORT)
    return score_row("interpolation", measured, base.measured, step=row.step, tokens_seen=row.tokens_seen, alpha=alpha)


def _texts(path: str) -> Iterator[str]:
    from steep.corpus.document import Document
    from steep.corpus.extract import extract
    from steep.corpus.sources import list_files

    source = Source(path=path)
    for file in list_files("text", source):
        yield from (item.text for item in extract(file, source) if isinstance(item, Document))
