"""Stage select: the rule applied to the table, `results.json` and the charts. Needs no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.files import write_atomic
from steep.evaluate.compare import base_score, score_row
from steep.evaluate.selection import mark, select
from steep.spec.errors import DamagedArtifact
from steep.spec.results import FROM_SCRATCH, Results, Score
from steep.worker.context import Context
from steep.worker.records import Record


def inputs(context: Context) -> dict[str, Any]:
    """The table, which of its models still exist, the budget, and what the guard did."""
    return {
        "records": [record.model_dump(mode="json") for record in context.records.read()],
        "checkpoints": CheckpointCatalog(context.run.checkpoints).steps(),
        "forgetting_budget": context.spec.evaluation.forgetting_budget,
        "name": context.spec.name,
        "guard": [one.message for one in context.guard.rollbacks],
    }


def there(context: Context) -> bool:
    """Whether the results are."""
    return context.run.results_file.exists()


def work(context: Context) -> dict[str, Any]:
    """Select, write `results.json`, draw the charts."""
    results = with_known_completions(context, tabulate(context))
    charts = publish(context, results)
    selected = results.selected
    assert selected is not None
    return {"selected": selected.label, "reason": results.selection_reason, "charts": [path.name for path in charts]}


def publish(context: Context, results: Results) -> list[Path]:
    """Say what was selected and why, write `results.json`, draw the charts; returns the charts' paths."""
    from steep.evaluate.charts import draw

    for warning in results.warnings:
        context.notice("selection", warning, warning=True)
    context.notice("selected", results.selection_reason)
    write_results(context, results)
    return draw(results, context.run.charts)


def sound(context: Context, results: Results) -> Results:
    """The results with a selected model whose every byte is right.

    A damaged checkpoint is named, and the same rule chooses among the rows that do not come of it; `results.json` and the
    charts say so.
    """
    damaged: dict[int, str] = {}
    catalog = CheckpointCatalog(context.run.checkpoints)
    while (selected := results.selected) is not None and selected.kind != "base":
        try:
            catalog.verify(selected.step)
            break
        except DamagedArtifact as error:
            damaged[selected.step] = str(error)
            results = tabulate(context, damaged=damaged)
    if damaged:
        publish(context, results)
    return results


def tabulate(context: Context, *, damaged: Mapping[int, str] | None = None) -> Results:
    """The results of what was measured so far, with the selected row marked.

    Args:
        context: of the run.
        damaged: what is wrong with each checkpoint, by step, whose rows may not be selected.
    """
    damaged = damaged or {}
    records = context.records.read()
    base = next((record for record in records if record.kind == "base"), None)
    if base is None:
        raise DamagedArtifact(
            "the base was not scored on these hold-outs", where=str(context.run.path), cure="Run `steep run` on it."
        )
    rows = [_row(record, base) for record in records]
    kept = set(CheckpointCatalog(context.run.checkpoints).steps()) - set(damaged)
    candidates = [index for index, row in enumerate(rows) if row.kind == "base" or row.step in kept]
    results = Results(
        name=context.spec.name,
        base=context.spec.base.model or FROM_SCRATCH,
        forgetting_budget=context.spec.evaluation.forgetting_budget,
        scores=tuple(rows),
        domain_bytes=sum(base.measured.domain_bytes.values()),
        general_bytes=base.measured.general_bytes,
    )
    budget = results.forgetting_budget if results.can_forget else None
    chosen = select([rows[index] for index in candidates], budget)
    selected = replace(chosen, index=candidates[chosen.index])
    guarded = tuple(f"the guard went back: {one.message}" for one in context.guard.rollbacks)
    passed_over = tuple(f"checkpoint {step} is damaged and was passed over: {why}" for step, why in damaged.items())
    return results.model_copy(
        update={
            "scores": mark(rows, selected),
            "selection_reason": chosen.reason,
            "warnings": guarded + passed_over + chosen.warnings,
        }
    )


def with_known_completions(context: Context, results: Results) -> Results:
    """The completions that were made of the same selected model before: a new table does not make them wrong."""
    try:
        before = context.run.results()
    except DamagedArtifact:
        return results  # which are about to take its place
    old, new = (None if before is None else before.selected), results.selected
    if before is None or old is None or new is None or _weights(old) != _weights(new):
        return results
    return results.model_copy(update={"completions": before.completions})


def _weights(row: Score) -> tuple[object, ...]:
    return row.kind, row.step, row.alpha, row.domain, row.general


def write_results(context: Context, results: Results) -> Path:
    """Write `results.json`."""
    write_atomic(context.run.results_file, results.model_dump_json(indent=1))
    return context.run.results_file


def _row(record: Record, base: Record) -> Score:
    if record.kind == "base":
        return base_score(record.measured)
    return score_row(
        record.kind,
        record.measured,
        base.measured,
        step=record.step,
        tokens_seen=record.tokens_seen,
        alpha=record.alpha,
    )
