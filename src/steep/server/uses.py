"""Requests counted by key, and handed over from time to time, so that not each of them is written."""

from __future__ import annotations

import threading
from collections import Counter


class Uses:
    """May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, key_id: str) -> None:
        """A request was made."""
        with self._lock:
            self._counts[key_id] += 1

    def take(self) -> dict[str, int]:
        """What was counted since the last time."""
        with self._lock:
            counts, self._counts = dict(self._counts), Counter()
        return counts
