"""The reaper: attempts that are not heard of become unreachable; after a while they are fenced, and ended where that is possible.

Nothing is started again here. That follows when the backend says that nothing of the worker runs any more.
"""

from __future__ import annotations

import logging

from steep.server.fencing import fence, raise_fence
from steep.server.service import Service
from steep.server.store.attempts import Living
from steep.spec.states import State
from steep.spec.units import format_seconds

log = logging.getLogger(__name__)


AWAY_SECONDS = 30.0
"""After so long without a turn the service, or its database, was away: what was not heard of in that time was not silent."""


class Reaper:
    """One turn of it is `turn`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store
        self._looked_at: float | None = None
        self._hears_since = 0.0

    def turn(self) -> None:
        """Expire leases, and fence what has been silent for too long, since somebody is there to hear it."""
        now = self._service.now()
        if self._looked_at is None or now - self._looked_at > AWAY_SECONDS:
            self._hears_since = now
        for job_id, number in self._store.attempts.expire_leases(now):
            log.warning("%s/%d is unreachable: its lease has run out", job_id, number)
        for attempt in self._store.attempts.living(lapsed_at=now):
            if attempt.revoked_at is not None:
                raise_fence(self._service, attempt.job_id, attempt.number)  # unless it was, when it was fenced
            elif attempt.standing.state in (State.UNREACHABLE, State.STOPPING):
                silent = now - max(attempt.lease_expires_at, attempt.standing.since, self._hears_since)
                if silent >= self._service.settings.patience.unreachable:
                    self._fence(attempt, silent)
        self._looked_at = now

    def _fence(self, attempt: Living, silent_seconds: float) -> None:
        """Its token opens nothing more, and neither does its run directory; the watcher has its processes ended."""
        detail = f"attempt {attempt.number} was silent for {format_seconds(silent_seconds)}: it may write no more"
        if fence(self._service, attempt.job_id, attempt.number, detail, if_silent=True):
            log.warning("%s/%d is fenced", attempt.job_id, attempt.number)
            self._service.bell.ring()
