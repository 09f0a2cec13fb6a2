"""What a branch keeps of the run that it left: the numbers that its state was trained by, and its place in the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steep.artifacts.lineage import TRUNK, Lineage
from steep.planning.facts import Trunk
from steep.worker.fingerprints import data_order

if TYPE_CHECKING:
    from steep.artifacts.manifest import CheckpointManifest
    from steep.worker.context import Context


def trunk_of(context: Context) -> Trunk | None:
    """The run that this one was branched from; None of a run that is no branch."""
    origin, recipe = Lineage.read(context.run).origin, context.run.path / TRUNK
    if origin is None or not recipe.exists():
        return None
    return Trunk.left_at(origin.step, recipe.read_bytes())


def cursor_after(context: Context, manifest: CheckpointManifest) -> int:
    """Where the text goes on after a checkpoint. After the one that a branch began with, if the branch has its text in another
    order: the corpus as far on as it was in the trunk, though another share of sequences comes of it."""
    trunk = trunk_of(context)
    if trunk is None or not Lineage.read(context.run).adopts(manifest):
        return manifest.cursor
    order = data_order(context, context.recipe)
    if order.fingerprint == manifest.order_fingerprint:
        return manifest.cursor
    drawn = round(manifest.cursor * (1 - trunk.replay_share))  # as at every place, to a sequence or two
    return order.reached(list(context.corpus.train), drawn)
