"""A job in the hand: what `client.jobs` answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Literal

from steep.client.blocking import Face, blocking, iterating
from steep.spec.api.checkpoints import Freed
from steep.spec.api.jobs import JobView
from steep.spec.events import Event
from steep.spec.reports import Report
from steep.spec.results import Results
from steep.spec.states import Standing, State

if TYPE_CHECKING:
    from steep.client.jobs import AsyncJobs

Stream = Literal["stdout", "stderr", "log"]
Show = bool | Callable[[JobView], None]

POLL_SECONDS = 1.0


class AsyncJob:
    """One job: a view of it, and what can be done with it. `view` is as old as the last call that answered one."""

    def __init__(self, jobs: AsyncJobs, view: JobView) -> None:
        self._jobs = jobs
        self.view = view

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.view.name!r} {self.state}>"

    @property
    def id(self) -> str:
        """By which the service knows it."""
        return self.view.id

    @property
    def standing(self) -> Standing:
        """Its state, and why."""
        return self.view.standing

    @property
    def state(self) -> State:
        """Its state."""
        return self.view.standing.state

    async def refresh(self) -> AsyncJob:
        """Look again."""
        return self._now(await self._jobs.get(self.id))

    async def wait(
        self, *, progress: Show = False, timeout_seconds: float | None = None, poll_seconds: float = POLL_SECONDS
    ) -> AsyncJob:
        """See `AsyncJobs.wait`."""
        jobs, seconds = self._jobs, timeout_seconds
        return self._now(
            await jobs.wait(self.id, progress=progress, timeout_seconds=seconds, poll_seconds=poll_seconds)
        )

    def watch(self, *, after: int | None = None) -> AsyncIterator[Event]:
        """See `AsyncJobs.watch`."""
        return self._jobs.watch(self.id, after=after)

    def events(self, *, after: int | None = None) -> AsyncIterator[Event]:
        """See `AsyncJobs.events`."""
        return self._jobs.events(self.id, after=after)

    def logs(self, *, stream: Stream = "stdout", offset: int = 0, follow: bool = False) -> AsyncIterator[str]:
        """See `AsyncJobs.logs`."""
        return self._jobs.logs(self.id, stream=stream, offset=offset, follow=follow)

    def reports(self, *, after: int | None = None, kind: str | None = None) -> AsyncIterator[Report]:
        """See `AsyncJobs.reports`."""
        return self._jobs.reports(self.id, after=after, kind=kind)

    async def results(self) -> Results:
        """See `AsyncJobs.results`."""
        return await self._jobs.results(self.id)

    async def pause(self) -> AsyncJob:
        """See `AsyncJobs.pause`."""
        return self._now(await self._jobs.pause(self.id))

    async def resume(self) -> AsyncJob:
        """See `AsyncJobs.resume`."""
        return self._now(await self._jobs.resume(self.id))

    async def cancel(self) -> AsyncJob:
        """See `AsyncJobs.cancel`."""
        return self._now(await self._jobs.cancel(self.id))

    async def rollback(self, step: int) -> AsyncJob:
        """See `AsyncJobs.rollback`."""
        return self._now(await self._jobs.rollback(self.id, step))

    async def delete(self) -> Freed:
        """See `AsyncJobs.delete`."""
        return await self._jobs.delete(self.id)

    def _now(self, newer: AsyncJob) -> AsyncJob:
        self.view = newer.view
        return self


def _face(job: AsyncJob) -> Job:
    return Job(job)


class Job(Face[AsyncJob]):
    """One job: a view of it, and what can be done with it. `view` is as old as the last call that answered one."""

    def __repr__(self) -> str:
        return repr(self._inner)

    @property
    def view(self) -> JobView:
        """All that is known of it."""
        return self._inner.view

    @property
    def id(self) -> str:
        """By which the service knows it."""
        return self._inner.id

    @property
    def standing(self) -> Standing:
        """Its state, and why."""
        return self._inner.standing

    @property
    def state(self) -> State:
        """Its state."""
        return self._inner.state

    refresh = blocking(AsyncJob.refresh, _face)
    wait = blocking(AsyncJob.wait, _face)
    watch = iterating(AsyncJob.watch)
    events = iterating(AsyncJob.events)
    logs = iterating(AsyncJob.logs)
    reports = iterating(AsyncJob.reports)
    results = blocking(AsyncJob.results)
    pause = blocking(AsyncJob.pause, _face)
    resume = blocking(AsyncJob.resume, _face)
    cancel = blocking(AsyncJob.cancel, _face)
    rollback = blocking(AsyncJob.rollback, _face)
    delete = blocking(AsyncJob.delete)
