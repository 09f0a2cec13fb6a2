"""The reaper: attempts that are not heard of become unreachable; after a while they are fenced, and ended where that is possible.

Nothing is started again here. That follows when the backend says that nothing of the worker runs any more.
"""

from __future__ import annotations

import logging

from steep.server.service import Service
from steep.server.store.attempts import Living
from steep.spec.errors import OutOfSpace
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
            if attempt.standing.state is State.UNREACHABLE and attempt.revoked_at is None:
                silent = now - max(attempt.lease_expires_at, attempt.standing.since)
                if silent >= self._service.settings.patience.unreachable:
                    self._fence(attempt, silent)

    def _fence(self, attempt: Living, silent_seconds: float) -> None:
        """Its token opens nothing more, and neither does its run directory; the watcher has its processes ended."""
        try:
            self._service.run(attempt.job_id).fence.move(attempt.number + 1)
        except (OSError, OutOfSpace) as error:
            log.warning("%s: the fence cannot be moved, so the attempt is not fenced: %s", attempt.job_id, error)
            return
        detail = f"attempt {attempt.number} was unreachable for {format_seconds(silent_seconds)}: it may write no more"
        if self._store.attempts.revoke(attempt.job_id, attempt.number, detail, self._service.now()):
            log.warning("%s/%d is fenced", attempt.job_id, attempt.number)
            self._service.bell.ring()
