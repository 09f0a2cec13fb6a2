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


class Reaper:
    """One turn of it is `turn`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store

    def turn(self) -> None:
        """Expire leases, and fence what has been unreachable for too long."""
        now = self._service.now()
        for job_id, number in self._store.attempts.expire_leases(now):
            log.warning("%s/%d is unreachable: its lease has run out", job_id, number)
        for attempt in self._store.attempts.living(lapsed_at=now):
            if attempt.revoked_at is not None:
                raise_fence(self._service, attempt.job_id, attempt.number)  # unless it was, when it was fenced
            elif attempt.standing.state is State.UNREACHABLE:
                silent = now - max(attempt.lease_expires_at, attempt.standing.since)
                if silent >= self._service.settings.patience.unreachable:
                    self._fence(attempt, silent)

    def _fence(self, attempt: Living, silent_seconds: float) -> None:
        """Its token opens nothing more, and neither does its run directory; the watcher has its processes ended."""
        detail = f"attempt {attempt.number} was unreachable for {format_seconds(silent_seconds)}: it may write no more"
        if fence(self._service, attempt.job_id, attempt.number, detail, if_silent=True):
            log.warning("%s/%d is fenced", attempt.job_id, attempt.number)
            self._service.bell.ring()
