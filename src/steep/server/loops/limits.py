"""The loop of limits: warns of what is nearly used up, and has a job saved and held that has reached a limit, or whose GPUs idle."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial

from steep.server.idleness import idle_seconds
from steep.server.limits import Usage, check
from steep.server.service import Service
from steep.server.store.attempts import Living
from steep.server.store.job_views import JobFilter
from steep.server.store.paging import MAX_PAGE_SIZE, PageRequest
from steep.spec.api.jobs import JobView
from steep.spec.errors import Conflict, NotFound
from steep.spec.events import EventKind
from steep.spec.states import Reason, State
from steep.spec.units import format_seconds

log = logging.getLogger(__name__)

CLOCKS_APART_SECONDS = 900.0
"""Samples carry the time of the worker's machine."""

_WORKING = (State.PROVISIONING, State.RUNNING, State.UNREACHABLE)


class LimitsLoop:
    """One turn of it is `turn`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store

    def turn(self) -> None:
        """Look at every job that works."""
        for job in self._working():
            self._guarded(job.id, partial(self._look, job))
        for attempt in self._store.attempts.living():
            if attempt.stop_when_idle is not None and attempt.standing.state is State.RUNNING:
                self._guarded(attempt.job_id, partial(self._look_at_devices, attempt))

    @staticmethod
    def _guarded(job_id: str, look: Callable[[], None]) -> None:
        """What has ended meanwhile keeps none of the others from being looked at."""
        try:
            look()
        except (Conflict, NotFound) as late:
            log.info("%s: its limits do not matter any more: %s", job_id, late)

    def _look_at_devices(self, attempt: Living) -> None:
        """Have it saved and held when its GPUs have done nothing for as long as it says."""
        assert attempt.stop_when_idle is not None
        now = self._service.now()
        since = now - attempt.stop_when_idle - CLOCKS_APART_SECONDS
        idle = idle_seconds(self._store.samples.since(attempt.job_id, attempt.number, since))
        if idle < attempt.stop_when_idle:
            return
        detail = f"its GPUs have done nothing for {format_seconds(idle)}"
        self._store.jobs.tell_limit(attempt.job_id, f"idle:{attempt.number}", EventKind.LIMIT_REACHED, detail, now)
        self._store.jobs.request_stop(attempt.job_id, Reason.DEVICES_IDLE, detail, now)
        self._service.bell.ring()

    def _look(self, job: JobView) -> None:
        now = self._service.now()
        for told in check(job.limits, usage_of(job), currency=self._service.settings.prices.currency):
            self._store.jobs.tell_limit(job.id, told.mark, told.kind, told.message, now)
            if told.level == "stop":  # told or not: one that goes on at its limit is stopped anew
                self._store.jobs.request_stop(job.id, Reason.LIMIT_REACHED, told.message, now)
                self._service.bell.ring()
                return

    def _working(self) -> Iterator[JobView]:
        number, more = 1, True
        while more:
            asked = PageRequest(number, MAX_PAGE_SIZE, sort_by="created_at")
            page = self._store.jobs.list(self._service.now(), JobFilter(states=_WORKING), asked)
            yield from page.items
            number, more = number + 1, page.has_more


def usage_of(job: JobView) -> Usage:
    """What a job has used so far."""
    return Usage(job.cost.amount, job.cost.work_seconds, float(job.progress.tokens_seen))
