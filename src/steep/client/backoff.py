"""Pauses between tries: doubled each time up to a cap, and of random length, so that clients do not come all at once."""

from __future__ import annotations

import random


class Backoff:
    """The pauses of one who tries again and again.

    Args:
        first_seconds: the first pause at most.
        longest_seconds: any pause at most.
    """

    def __init__(self, first_seconds: float = 0.25, longest_seconds: float = 8.0) -> None:
        self._first_seconds = first_seconds
        self._longest_seconds = longest_seconds
        self._next_seconds = first_seconds

    def pause_seconds(self) -> float:
        """How long to wait before the next try: between half of this pause and all of it."""
        seconds = self._next_seconds
        self._next_seconds = min(2 * seconds, self._longest_seconds)
        return seconds * (0.5 + 0.5 * random.random())

    def reset(self) -> None:
        """It went well: the next pause is a first one again."""
        self._next_seconds = self._first_seconds
