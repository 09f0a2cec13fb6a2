"""Pauses between tries: doubled each time up to a cap, and of random length, so that clients do not come all at once."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 8.0


class Backoff:
    """The pauses of one who tries again and again.

    Args:
        longest_seconds: no pause is longer; by default LONGEST_SECONDS.
    """

    def __init__(self, longest_seconds: float | None = None) -> None:
        self._longest_seconds = LONGEST_SECONDS if longest_seconds is None else longest_seconds
        self._next_seconds = FIRST_SECONDS

    def pause_seconds(self) -> float:
        """How long to wait before the next try: between half of this pause and all of it."""
        seconds = self._next_seconds
        self._next_seconds = min(2 * seconds, self._longest_seconds)
        return seconds * (0.5 + 0.5 * random.random())

    def reset(self) -> None:
        """It went well: the next pause is a first one again."""
        self._next_seconds = FIRST_SECONDS
