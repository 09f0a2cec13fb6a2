"""How quickly a job will train, before any of it has run: as others did, else as far as its GPUs are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steep.planning.budget import FORWARD_SHARE, TRAINING_SHARE_OF_TIME
from steep.planning.facts import Facts
from steep.planning.recipe import Recipe
from steep.spec.devices import peak_of

TYPICAL_MFU = 0.35
"""Share of a GPU's peak that training reaches, where nothing was measured: large models reach more, small ones less."""
_PRODUCTS = 6.0  # operations on each weight for each token: two forward, four backward
_PRODUCTS_OF_ADAPTERS = 4.0  # the gradients of the weights themselves are left out


@dataclass(frozen=True, slots=True)
class Pace:
    """A training speed, and what it is based on.

    Args:
        tokens_per_second: of all devices together.
        basis: a clause such as `as job-7f was measured on 1 x NVIDIA H100`.
    """

    tokens_per_second: float
    basis: str


def pace_of_gpus(facts: Facts, recipe: Recipe, gpus: Sequence[str]) -> Pace | None:
    """The speed that GPUs of these models probably reach, by what their makers state; None: one is not known, or there is none.

    Args:
        facts: of the base.
        recipe: of the training.
        gpus: the name of each GPU's model.
    """
    peaks = [peak_of(name) for name in gpus]
    known = [peak for peak in peaks if peak is not None]
    if not known or len(known) < len(peaks):
        return None
    products = _PRODUCTS if recipe.lora is None else _PRODUCTS_OF_ADAPTERS
    taught = 1 + FORWARD_SHARE * recipe.replay_share * (recipe.replay_distill > 0)
    flops = min(known) * len(known)  # all wait for the slowest
    speed = TYPICAL_MFU * flops / (products * facts.parameters * taught)
    return Pace(
        speed,
        f"{TYPICAL_MFU:.0%} of what {_named(gpus)} can do at most, which is typical; no job with this base has run on it yet",
    )


def training_seconds(recipe: Recipe, pace: Pace) -> float:
    """How long the training takes, with what checkpoints and hold-outs take meanwhile."""
    return recipe.total_tokens / pace.tokens_per_second / TRAINING_SHARE_OF_TIME


def _named(gpus: Sequence[str]) -> str:
    return f"{len(gpus)} x {gpus[0]}"
