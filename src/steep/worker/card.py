"""What a run knows of its own model, for the model card of its export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steep import __version__
from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.lineage import Lineage
from steep.model.card import CardFacts, CardSource
from steep.model.files import named_license
from steep.spec.results import Results, Score
from steep.worker.context import Context
from steep.worker.fingerprints import data_order

CHART_CAPTIONS = {
    "holdouts": "bits per byte of the hold-outs while it was trained",
    "tradeoff": "gain against forgetting of all that was measured",
}


def card_facts(context: Context, results: Results, row: Score, *, charts: Sequence[str] = ()) -> CardFacts:
    """All that the card of a row's export says; `charts` are files of the export."""
    model = context.spec.base.model
    return CardFacts(
        name=context.spec.name,
        base=None if model is None else _base_name(model),
        results=results,
        row=row,
        sources=_sources(context),
        recipe=[(one.field, one.value, one.reason) for one in context.recipe.explain()],
        base_license=None if model is None else named_license(context.base_directory),
        tags=context.spec.tags,
        charts=[(name, CHART_CAPTIONS.get(Path(name).stem, Path(name).stem)) for name in charts],
        lineage=_lineage(context, row),
        version=__version__,
    )


def _base_name(model: str) -> str:
    """A hub id as it is; of a directory its name, since its place means nothing elsewhere."""
    return Path(model).name if Path(model).is_absolute() else model


def _sources(context: Context) -> list[CardSource]:
    order = data_order(context, context.recipe)
    datasets = {**context.corpus.train, **(context.replay if context.recipe.replay_share > 0 else {})}
    replayed = set(context.replay)
    return [
        CardSource(
            name=f"{name} (replay)" if name in replayed else name,
            documents=dataset.info.documents,
            tokens=dataset.info.tokens,
            text_bytes=dataset.info.text_bytes,
            share=order.share(name),
        )
        for name, dataset in datasets.items()
    ]


def _lineage(context: Context, row: Score) -> list[str]:
    base = context.spec.base.model
    steps = [f"base: {'random weights' if base is None else _base_name(base)}"]
    origin = Lineage.read(context.run).origin
    if origin is not None:
        steps.append(f"branched from step {origin.step} of {Path(origin.run).name} (`{origin.identity[:16]}`)")
    manifests = {one.step: one for one in CheckpointCatalog(context.run.checkpoints).list()}
    if row.kind != "base" and row.step in manifests:
        steps.append(f"checkpoint of step {row.step} (`{manifests[row.step].identity[:16]}`)")
    if row.kind in ("interpolation", "average"):
        steps.append(row.label)
    return steps
