"""The loop of limits: warns of what is nearly used up, and has a job that has reached a limit saved and held."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from steep.server.limits import Usage, check
from steep.server.service import Service
from steep.server.store.job_views import JobFilter
from steep.server.store.paging import MAX_PAGE_SIZE, PageRequest
from steep.spec.api import JobView
from steep.spec.errors import Conflict, NotFound
from steep.spec.states import Reason, State

log = logging.getLogger(__name__)

_WORKING = (State.PROVISIONING, State.RUNNING, State.UNREACHABLE)


class LimitsLoop:
    """One turn of it is `turn`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store

    def turn(self) -> None:
        """Look at every job that works."""
        for job in self._working():
            try:
                self._look(job)
            except (Conflict, NotFound) as late:
                log.info("%s: its limits do not matter any more: %s", job.id, late)

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
