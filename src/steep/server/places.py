"""Places of waiting jobs in the queue, and when they will probably begin: worked out once for all who ask within a moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TypeVar

from steep.server.estimates import estimate_starts
from steep.server.store.store import Store
from steep.server.waiting import OfferedDevice, Snapshot, queue_order
from steep.spec.api.jobs import JobView
from steep.spec.states import State

View = TypeVar("View", bound=JobView)

FRESH_SECONDS = 2.0
ASKED_SECONDS = 30.0
"""For so long after a question the scheduler keeps the answer fresh, so that nobody who asks has to wait for it."""
NUM_CHEAP = 500  # so many places are worked out in a few milliseconds
STALE_SECONDS = 10.0
"""So old may they be of a longer queue: to work them out takes a tenth of a second, for which nobody should wait."""


@dataclass(frozen=True, slots=True)
class _Known:
    """As of a moment: places by job, and times of beginning of those of which that can be said."""

    places: Mapping[str, int] = field(default_factory=dict)
    starts: Mapping[str, float] = field(default_factory=dict)


class QueuePlaces:
    """May be used from any thread.

    Args:
        store: which knows who waits.
        offered: asks for the devices that there are.
    """

    def __init__(self, store: Store, offered: Callable[[], Sequence[OfferedDevice]]) -> None:
        self._store = store
        self._offered = offered
        self._lock = threading.Lock()
        self._known = _Known()
        self._known_until = 0.0
        self._asked_at = 0.0

    def put(self, views: Sequence[View], now: float) -> tuple[View, ...]:
        """The same jobs; those that wait with their place, and with when they will probably begin."""
        waiting = [view for view in views if view.standing.state is State.QUEUED and not view.standing.is_paused]
        if not waiting:
            return tuple(views)
        ids = {view.id for view in waiting}
        known = self._at(now, ids)
        return tuple(
            view.model_copy(
                update={"position": known.places.get(view.id), "estimated_start": known.starts.get(view.id)}
            )
            if view.id in ids
            else view
            for view in views
        )

    def refresh(self, now: float, devices: Sequence[OfferedDevice]) -> None:
        """Work it out anew, where somebody asked of late and what is known will soon be old."""
        asked_lately = now - self._asked_at <= ASKED_SECONDS
        left = FRESH_SECONDS if self._is_short else -STALE_SECONDS / 2
        is_new = left <= self._known_until - now <= 2 * FRESH_SECONDS
        if asked_lately and not is_new:
            known = self._work_out(self._store.queue.snapshot(now, devices))
            with self._lock:
                self._known, self._known_until = known, now + 2 * FRESH_SECONDS

    def _at(self, now: float, wanted: Set[str]) -> _Known:
        self._asked_at = now
        with self._lock:
            is_short = self._is_short
            is_fresh = -(0.0 if is_short else STALE_SECONDS) <= self._known_until - now <= 2 * FRESH_SECONDS
            # One that came since is looked for at once, unless a burst of them would then read a long queue each time.
            is_behind = is_short and not wanted <= self._known.places.keys()
            if not is_fresh or is_behind:
                self._known = self._work_out(self._store.queue.snapshot(now, self._offered()))
                self._known_until = now + FRESH_SECONDS
            return self._known

    @property
    def _is_short(self) -> bool:
        return len(self._known.places) < NUM_CHEAP

    def _work_out(self, snapshot: Snapshot) -> _Known:
        order = queue_order(snapshot)
        typical = self._store.expectations.typical_seconds()
        ends = self._store.expectations.ends(snapshot.now, typical)
        return _Known(
            places={job.id: place for place, job in enumerate(order, 1)},
            starts=estimate_starts(snapshot, ends, typical, order=order),
        )
