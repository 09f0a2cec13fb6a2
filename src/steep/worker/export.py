"""Stage export: the selected model as a Hugging Face directory. Success is claimed only after it was read back and re-scored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from steep.spec.errors import DamagedArtifact
from steep.spec.results import Results, Score
from steep.spec.stages import Stage
from steep.worker.context import Context
from steep.worker.select import write_results
from steep.worker.weights import RunModels


def inputs(context: Context) -> dict[str, Any]:
    """The selected row, the prompts, and the training it comes from."""
    results = _results(context)
    selected = results.selected
    return {
        "lineage": context.records.lineage,
        "selected": None if selected is None else selected.model_dump(mode="json"),
        "prompts": context.spec.evaluation.prompts,
        "there": (context.run.export / "config.json").exists(),
    }


def work(context: Context) -> dict[str, Any]:
    """Complete the prompts before and after, write the export, read it back."""
    results = _results(context)
    selected = results.selected
    assert selected is not None
    models = RunModels(context)
    results = _with_completions(context, models, results, selected)
    write_results(context, results)
    report = export_row(context, models, results, selected, context.run.export)
    return {"export": str(context.run.export), **report}


def export_row(
    context: Context, models: RunModels, results: Results, row: Score, out: Path, *, dtype: str | None = None
) -> dict[str, Any]:
    """Write any row of the results to `out` and prove that plain transformers scores it alike.

    Raises:
        DamagedArtifact: the export, read back, does not score as the model did.
    """
    from steep.model.card import model_card
    from steep.model.export import verify_export, write_export

    model = models.load(row.kind, row.step, row.alpha)
    card = model_card(_card_facts(context, results, row))
    write_export(model, context.tokenizer, out, dtype=dtype, card=card, attachments=_attachments(context))
    adapter = _write_adapter(context, row, out)
    name, dataset = next(iter({**context.corpus.holdout, **context.general}.items()))
    progress = context.progress(Stage.EXPORT)
    progress("reading the export back", 0, 1)
    checked = verify_export(out, dataset, model=model, max_tokens=context.spec.evaluation.max_tokens)
    progress("reading the export back", 1, 1)
    return {"verified_on": name, "bpb": checked, "adapter": adapter}


def _results(context: Context) -> Results:
    results = context.run.results()
    if results is None:
        raise DamagedArtifact("has no results yet", where=str(context.run.path), cure="Run `steep run` on it first.")
    return results


def _with_completions(context: Context, models: RunModels, results: Results, selected: Score) -> Results:
    from steep.evaluate.prompts import continuations, side_by_side

    prompts = context.spec.evaluation.prompts
    if not prompts:
        return results
    before = continuations(models.load("base", 0), context.tokenizer, prompts)
    after = continuations(models.load(selected.kind, selected.step, selected.alpha), context.tokenizer, prompts)
    return results.model_copy(update={"completions": side_by_side(prompts, before, after)})
