"""Stage export: the selected model as a Hugging Face directory. Success is claimed only after it was read back and re-scored."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.hashes import hash_files
from steep.artifacts.tokens import TokenDataset
from steep.spec.errors import DamagedArtifact
from steep.spec.results import Results, Score
from steep.spec.stages import Stage
from steep.worker.card import card_facts
from steep.worker.context import Context
from steep.worker.select import sound, write_results
from steep.worker.weights import RunModels


def inputs(context: Context) -> dict[str, Any]:
    """The training that the selected model comes from, and the prompts. Which one that is, `there` asks."""
    return {"lineage": context.records.lineage, "prompts": context.spec.evaluation.prompts}


def there(context: Context) -> bool:
    """Whether the export is, of the row that is selected; this stage itself may have had to select another one."""
    done = context.run.completion(Stage.EXPORT)
    selected = _results(context).selected
    exported = done is not None and selected is not None and done["outputs"].get("row") == _facts(selected)
    return exported and (context.run.export / "config.json").exists()


def work(context: Context) -> dict[str, Any]:
    """Complete the prompts before and after, write the export, read it back."""
    results = sound(context, _results(context))
    selected = results.selected
    assert selected is not None
    models = RunModels(context)
    results = _with_completions(context, models, results, selected)
    write_results(context, results)
    report = export_row(context, models, results, selected, context.run.export)
    files = hash_files(context.run.export)  # for whoever downloads it, and while it is in memory still
    return {"export": str(context.run.export), "row": _facts(selected), "files": files, **report}


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
    charts = {f"charts/{path.name}": path for path in sorted(context.run.charts.glob("*.png"))}
    card = model_card(card_facts(context, results, row, charts=tuple(charts)))
    write_export(model, context.tokenizer, out, dtype=dtype, card=card, attachments=charts)
    adapter = _write_adapter(context, row, out)
    name, dataset = _verification_text(context)
    progress = context.progress(Stage.EXPORT)
    progress("reading the export back", 0, 1)
    checked = verify_export(out, dataset, model=model, max_tokens=context.spec.evaluation.max_tokens)
    progress("reading the export back", 1, 1)
    return {"verified_on": name, "bpb": checked, "adapter": adapter}


def _verification_text(context: Context) -> tuple[str, TokenDataset]:
    """What the export is scored on beside the model: a hold-out; where there is none, what was trained on proves as much."""
    corpus = context.corpus
    candidates = itertools.chain(corpus.holdout.items(), context.general.items(), corpus.train.items())
    return next((name, dataset) for name, dataset in candidates if len(dataset))


def _write_adapter(context: Context, row: Score, out: Path) -> str | None:
    """Beside the merged weights, the adapters by themselves; a mix with the base is none that adapters could make."""
    recipe = context.recipe
    if recipe.lora is None or row.kind not in ("checkpoint", "average"):
        return None
    from steep.model.lora import write_adapter
    from steep.train.checkpoint import load_average, load_weights

    catalog = CheckpointCatalog(context.run.checkpoints)
    weights = load_weights(catalog, row.step)
    if row.kind == "average":
        weights |= load_average(catalog, row.step) or {}
    write_adapter(context.load_base().state_dict(), weights, recipe.lora, out / "adapter", base_name=context.base)
    return str(out / "adapter")


def _facts(row: Score) -> dict[str, Any]:
    return row.model_dump(mode="json")


def _results(context: Context) -> Results:
    results = context.run.results()
    if results is None:
        raise DamagedArtifact("has no results yet", where=str(context.run.path), cure="Run `steep run` on it first.")
    return results


def _with_completions(context: Context, models: RunModels, results: Results, selected: Score) -> Results:
    from steep.evaluate.prompts import continuations, side_by_side

    prompts = context.spec.evaluation.prompts
    if not prompts:
        return results.model_copy(update={"completions": ()})
    before = continuations(models.load("base", 0), context.tokenizer, prompts)
    after = continuations(models.load(selected.kind, selected.step, selected.alpha), context.tokenizer, prompts)
    return results.model_copy(update={"completions": side_by_side(prompts, before, after)})
