"""What will be done to a service, and when: a pure function of a seed, so that a run that found something can be had again.

Which worker or which server is hit is drawn too, as a number from 0 to 1 that picks among those that there are at that moment.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Choice = TypeVar("Choice")

TRANSITIONS = (
    "Jobs.submit",
    "Jobs.request_stop",
    "Jobs.release",
    "Jobs.set_outcome",
    "Attempts.begin",
    "Attempts.provisioned",
    "Attempts.record_many",
    "Attempts.catch_up",
    "Attempts.expire_leases",
    "Attempts.revoke",
    "Attempts.finish",
    "Queue.record_waits",
    "Loops.acquire",
    "Tokens.renew",
)
"""Methods of the store that change something about a job: a server is killed right before and right after their commits."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault.

    Args:
        number: from 1.
        kind: name of a fault, see `faults.py`.
        pause_seconds: before it, after the one before.
        lasts_seconds: until it is mended, where it does not mend itself.
        pick: from 0 to 1: which of those that can be hit.
        transition: at which the server is to die, for that kind.
        is_late: it dies after the commit, and not before.
    """

    number: int
    kind: str
    pause_seconds: float
    lasts_seconds: float
    pick: float
    transition: str
    is_late: bool


def plan(seed: int, count: int, kinds: Sequence[str], *, longest_pause_seconds: float = 1.5) -> list[Blow]:
    """So many blows. Every kind comes equally often, but for one; so do the transitions among those that need one."""
    chance = random.Random(seed)
    rounds, moments = _Rounds(chance, kinds), _Rounds(chance, [(one, late) for one in TRANSITIONS for late in (0, 1)])
    blows = []
    for number in range(1, count + 1):
        kind = rounds.draw()
        transition, is_late = moments.draw() if kind == "crash" else ("", 0)
        pause, lasts, pick = chance.uniform(0.2, longest_pause_seconds), chance.random(), chance.random()
        blows.append(Blow(number, kind, pause, lasts, pick, transition, bool(is_late)))
    return blows


class _Rounds(Generic[Choice]):
    """Draws all choices in some order, then all of them in another."""

    def __init__(self, chance: random.Random, choices: Sequence[Choice]) -> None:
        self._chance = chance
        self._choices = choices
        self._left: list[Choice] = []

    def draw(self) -> Choice:
        if not self._left:
            self._left = self._chance.sample(self._choices, len(self._choices))
        return self._left.pop()
