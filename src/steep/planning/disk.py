"""How much disk a run takes at most, so that it is known before training and not when the disk is full."""

from __future__ import annotations

from dataclasses import dataclass

from steep.planning.facts import Facts
from steep.planning.memory import lora_parameters
from steep.planning.recipe import Recipe
from steep.spec.errors import InvalidInput
from steep.spec.job import Checkpoints
from steep.spec.units import format_bytes

MARGIN = 1.1


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes that a run's checkpoints and its export hold already."""

    checkpoints: int = 0
    export: int = 0


@dataclass(frozen=True, slots=True)
class DiskEstimate:
    """Bytes that training and export will write and keep."""

    checkpoint: int
    num_checkpoints: int
    export: int

    @property
    def total(self) -> int:
        """Bytes at the fullest moment: all kept checkpoints, the one being written, the export."""
        return int(MARGIN * (self.checkpoint * (self.num_checkpoints + 1) + self.export))

    def missing(self, held: Held) -> int:
        """Bytes of these that are still to be written; what a run holds beyond what it was to keep saves none."""
        checkpoints = min(held.checkpoints, self.checkpoint * self.num_checkpoints)
        return max(0, self.total - checkpoints - min(held.export, self.export))


def estimate_disk(facts: Facts, recipe: Recipe, checkpoints: Checkpoints) -> DiskEstimate:
    """Size of checkpoints (fp32 weights and two Adam moments of what is trained) and of the export (at most fp32).

    Those kept are the last, the best, and the first of the decay, which a branch starts from.
    """
    trained = facts.parameters if recipe.lora is None else lora_parameters(facts, recipe.lora)
    copies = 4 if recipe.average_steps else 3
    export = 4 * facts.parameters + (0 if recipe.lora is None else 4 * trained)
    kept = checkpoints.keep_last + checkpoints.keep_best + 1
    return DiskEstimate(checkpoint=4 * copies * trained, num_checkpoints=kept, export=export)


def check_disk(estimate: DiskEstimate, free_bytes: int, where: str, held: Held = Held()) -> None:
    """Refuse a run that the disk cannot hold.

    Args:
        estimate: what it takes in all.
        free_bytes: what may still be written.
        where: its directory.
        held: what it has written already, which need not be free once more.

    Raises:
        InvalidInput: with what is needed and what is free.
    """
    missing = estimate.missing(held)
    if missing > free_bytes:
        more = " more" if missing < estimate.total else ""
        raise InvalidInput(
            f"the run needs up to {format_bytes(missing)}{more} ({estimate.num_checkpoints + 1} checkpoints of "
            f"{format_bytes(estimate.checkpoint)} and an export of {format_bytes(estimate.export)}), and "
            f"{format_bytes(free_bytes)} are free",
            where=where,
            cure="Free space, choose another --dir, or lower checkpoints.keep_last.",
        )
