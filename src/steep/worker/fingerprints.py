"""What a run's training is, as fingerprints: the data order, the part of the spec it depends on, and the whole of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steep.artifacts.files import hash_text
from steep.artifacts.guard import GuardRecord
from steep.artifacts.lineage import Lineage
from steep.corpus.order import DataOrder, Stream, mix
from steep.corpus.sources import name_sources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from steep.artifacts.tokens import TokenDataset
    from steep.planning.recipe import Recipe
    from steep.worker.context import Context

# Numbers of the recipe that change the way, not the destination: a run goes on although they are other ones now.
_OF_NO_CONSEQUENCE = {
    "microbatch_sequences",
    "precision",
    "compile",
    "activation_checkpointing",
    "checkpoint_every_steps",
    "checkpoint_every_seconds",
    "evaluate_every_steps",
    "evaluate_every_seconds",
    "time_budget_seconds",
    "pace_is_measured",
    "decisions",
}


def lineage(context: Context) -> str:
    """Fingerprint of the training that makes this run's models; empty before there is a recipe.

    It covers all that decides the weights: the base, the text and its order, the recipe, and the checkpoint that the
    run was branched from.
    """
    if not context.recipe_file.exists():
        return ""
    order = data_order(context, context.recipe)
    return _lineage(context, spec_fingerprint(context, context.recipe), order.fingerprint)


def planned_lineage(context: Context) -> str:
    """The same as if the guard had done nothing: what the spec and the text alone make of the run."""
    if not context.recipe_file.exists():
        return ""
    order = data_order(context, context.planned, context.replay_of(GuardRecord()))
    return _lineage(context, spec_fingerprint(context, context.planned), order.fingerprint)


def ancestry(context: Context) -> Mapping[str, int]:
    """Fingerprints of the trainings that the guard left, and the last step of each that is still part of the run's line."""
    rollbacks = context.guard.rollbacks
    return {
        _lineage(context, one.spec_fingerprint, one.order_fingerprint): min(
            later.to_step for later in rollbacks[number:]
        )
        for number, one in enumerate(rollbacks)
    }


def _lineage(context: Context, spec: str, order: str) -> str:
    origin = Lineage.read(context.run).origin
    return hash_text(spec, order, "" if origin is None else origin.identity)


def planned_training(context: Context) -> str:
    """What the guard's record belongs to: the planned training, wherever it was branched from."""
    if not context.recipe_file.exists():
        return ""
    order = data_order(context, context.planned, context.replay_of(GuardRecord()))
    return hash_text(spec_fingerprint(context, context.planned), order.fingerprint)


def spec_fingerprint(context: Context, recipe: Recipe) -> str:
    """Of what training depends on beside its data order; a checkpoint with another one is foreign."""
    numbers = recipe.model_dump_json(exclude=_OF_NO_CONSEQUENCE)
    return hash_text(context.weights_fingerprint, numbers, str(context.spec.seed))


def data_order(context: Context, recipe: Recipe, replay: Mapping[str, TokenDataset] | None = None) -> DataOrder:
    """Which tokens each sequence holds: the corpus by weight, and replay by its share; the run's replay if none is given."""
    replay = context.replay if replay is None else replay
    weights = {name: source.weight for name, source in name_sources(context.spec.corpus.sources).items()}
    streams = mix(
        [_stream(name, dataset, weights.get(name, 1.0)) for name, dataset in context.corpus.train.items()],
        [_stream(name, dataset, 1.0) for name, dataset in replay.items()],
        recipe.replay_share,
    )
    return DataOrder(streams, sequence_tokens=recipe.sequence_tokens, seed=context.spec.seed)


def _stream(name: str, dataset: TokenDataset, weight: float) -> Stream:
    return Stream(name, len(dataset), weight, dataset.info.fingerprint)
