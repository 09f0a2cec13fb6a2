"""Jobs: submit them, look after them, read what they say."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from steep.client.blocking import Face, blocking, iterating
from steep.client.job import POLL_SECONDS, AsyncJob, Job, Show, Stream
from steep.client.progress import line_on
from steep.client.reading import AnySpec, given, read_spec
from steep.client.requests import Request, at, body_of, create, delete, get, patch, post
from steep.client.watching import PATIENCE_SECONDS, stream_events
from steep.client.wire import Wire
from steep.spec.api.attempts import DeviceSample
from steep.spec.api.checkpoints import Freed
from steep.spec.api.common import Page
from steep.spec.api.files import NEXT_OFFSET_HEADER
from steep.spec.api.jobs import (
    BranchRequest,
    CloneRequest,
    JobChange,
    JobDetail,
    JobRequest,
    JobView,
    Plan,
    RollbackRequest,
)
from steep.spec.events import Event, EventKind
from steep.spec.reports import Report
from steep.spec.results import Results
from steep.spec.service import Limits
from steep.spec.states import State

ENDS = frozenset({EventKind.SUCCEEDED, EventKind.FAILED, EventKind.CANCELLED})
"""Kinds of events after which nothing more happens to a job."""


class AsyncJobs:
    """Jobs of the service. Every method raises the error that the server's answer stands for, see `spec/errors.py`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    # ---- submitting

    async def create(self, spec: AnySpec, *, idempotency_key: str | None = None) -> AsyncJob:
        """Submit a job.

        Args:
            spec: the path of a job file, its values, or a JobSpec.
            idempotency_key: names this order: under one key one job is made, however often it is sent. By default a new one.
        """
        return await self._ask(create("/jobs", JobRequest(spec=read_spec(spec)), key=idempotency_key))

    async def plan(self, spec: AnySpec) -> Plan:
        """What a job would take (tokens, memory, time, cost), without submitting it."""
        return await self._wire.call(post("/jobs", JobRequest(spec=read_spec(spec)), dry_run=True), Plan)

    async def clone(
        self,
        job: str,
        *,
        name: str | None = None,
        set: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncJob:
        """Submit a new job like another; `set` holds changed fields by dotted path."""
        body = body_of(CloneRequest, **given(name=name, set=set))
        return await self._ask(create(at("jobs", job, "clone"), body, key=idempotency_key))

    async def branch(
        self,
        job: str,
        step: int,
        *,
        name: str | None = None,
        set: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncJob:
        """Submit a new job that goes on from a checkpoint of another; `set` holds changed fields by dotted path."""
        body = body_of(BranchRequest, step=step, **given(name=name, set=set))
        return await self._ask(create(at("jobs", job, "branch"), body, key=idempotency_key))

    # ---- looking

    async def list(
        self,
        *,
        state: State | str | Sequence[State | str] | None = None,
        tag: str | Sequence[str] | None = None,
        project: str | None = None,
        name: str | None = None,
        parent: str | None = None,
        paused: bool | None = None,
        sort_by: str | None = None,
        sort_order: Literal["asc", "desc"] | None = None,
    ) -> AsyncIterator[AsyncJob]:
        """Jobs, fetched as they are needed.

        Args:
            state: in this state, or in one of these.
            tag: with this tag, or with all of these.
            project: of this project.
            name: with this text in their name.
            parent: branches of this job.
            paused: those that are held, or those that are not.
            sort_by: a field to sort by.
            sort_order: by default as is usual for that field.
        """
        chosen: dict[str, Any] = {"state": state, "tag": tag, "project": project, "name": name, "parent": parent}
        request = get("/jobs", paused=paused, sort_by=sort_by, sort_order=sort_order, **chosen)
        async for view in self._wire.pages(request, Page[JobView]):
            yield AsyncJob(self, view)

    async def get(self, job: str) -> AsyncJob:
        """The job with this id."""
        return AsyncJob(self, await self.detail(job))

    async def detail(self, job: str) -> JobDetail:
        """A job with its spec and its attempts."""
        return await self._wire.call(get(at("jobs", job)), JobDetail)

    async def wait(
        self,
        job: str,
        *,
        progress: Show = False,
        timeout_seconds: float | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> AsyncJob:
        """Wait until a job has ended, however; a server that goes away meanwhile is waited for.

        Args:
            job: its id.
            progress: show it on a line of the terminal; or what shall be called with each view of the job.
            timeout_seconds: how long to wait.
            poll_seconds: how often to look.

        Raises:
            TimeoutError: it has not ended in that time.
        """
        show = line_on() if progress is True else progress or (lambda view: None)
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            view = await self._wire.call(get(at("jobs", job)), JobDetail, patience_seconds=PATIENCE_SECONDS)
            show(view)
            if view.standing.is_terminal:
                return AsyncJob(self, view)
            if until is not None and time.monotonic() + poll_seconds > until:
                raise TimeoutError(f"job {job} has not ended: it is {view.standing.state}")
            await self._wire.sleep(poll_seconds)

    async def events(self, job: str, *, after: int | None = None) -> AsyncIterator[Event]:
        """What has happened so far, from the event after an id on."""
        request = get(at("jobs", job, "events"))
        async for event in self._wire.pages_after(request, Page[Event], lambda one: one.id, after):
            yield event

    async def watch(self, job: str, *, after: int | None = None) -> AsyncIterator[Event]:
        """What has happened and what happens, until the job has ended. A lost connection is made again, and nothing is missed."""
        async for event in stream_events(self._wire, get(at("jobs", job, "events")), after):
            if event is not None:
                after = event.id
                yield event
                if event.kind in ENDS:
                    return
            elif (await self.detail(job)).standing.is_terminal:  # what was not streamed is listed
                async for missed in self.events(job, after=after):
                    yield missed
                return

    async def logs(
        self, job: str, *, stream: Stream = "stdout", offset: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        """What the job's workers printed, piece by piece.

        Args:
            job: its id.
            stream: which of its streams.
            offset: bytes of the stream to pass over.
            follow: go on until the job has ended.
        """
        has_ended = not follow
        while True:
            request = get(at("jobs", job, "logs"), stream=stream, offset=offset)
            answer = await self._wire.send(request, patience_seconds=PATIENCE_SECONDS)
            reached = int(answer.headers.get(NEXT_OFFSET_HEADER.lower(), offset + len(answer.body)))
            if answer.body:
                yield answer.body.decode("utf-8", errors="replace")
            if reached > offset:
                offset = reached
            elif has_ended:
                return
            elif not (has_ended := (await self.detail(job)).standing.is_terminal):
                await self._wire.sleep(POLL_SECONDS)

    async def reports(self, job: str, *, after: int | None = None, kind: str | None = None) -> AsyncIterator[Report]:
        """What the job's workers reported, from the one after a sequence number on; all of them, or those of a kind."""
        request = get(at("jobs", job, "reports"), kind=kind)
        async for report in self._wire.pages_after(request, Page[Report], lambda one: one.sequence, after):
            yield report

    async def metrics(self, job: str) -> AsyncIterator[DeviceSample]:
        """What the workers' machines did, by time."""
        async for sample in self._wire.pages(get(at("jobs", job, "metrics")), Page[DeviceSample]):
            yield sample

    async def results(self, job: str) -> Results:
        """What was measured: the base, each checkpoint, and which was selected."""
        return await self._wire.call(get(at("jobs", job, "results")), Results)

    async def chart(self, job: str, name: str) -> bytes:
        """A chart's file by its name, such as `loss.svg`."""
        return (await self._wire.send(get(at("jobs", job, "charts", name)))).body

    # ---- orders

    async def pause(self, job: str) -> AsyncJob:
        """Save a checkpoint and hold the job until it is resumed."""
        return await self._ask(post(at("jobs", job, "pause")))

    async def resume(self, job: str) -> AsyncJob:
        """Let a job that is held go on."""
        return await self._ask(post(at("jobs", job, "resume")))

    async def cancel(self, job: str) -> AsyncJob:
        """End a job; what it has made stays."""
        return await self._ask(post(at("jobs", job, "cancel")))

    async def declare_lost(self, job: str) -> AsyncJob:
        """Say that the machine of a job's worker is gone for good, so that the job goes on elsewhere, or ends if that was asked.

        Raises:
            Forbidden: the key is not an admin's of all projects.
            Conflict: the worker is not fenced yet, or its machine can be asked.
        """
        return await self._ask(post(at("jobs", job, "declare-lost")))

    async def change(
        self,
        job: str,
        *,
        priority: int | None = None,
        tags: tuple[str, ...] | None = None,
        limits: Limits | None = None,
    ) -> AsyncJob:
        """Change a job while it lives; what is not given stays."""
        return await self._ask(
            patch(at("jobs", job), body_of(JobChange, **given(priority=priority, tags=tags, limits=limits)))
        )

    async def rollback(self, job: str, step: int) -> AsyncJob:
        """Go back to a checkpoint; later ones are set aside, and training goes on from there."""
        request = post(at("jobs", job, "rollback"), body_of(RollbackRequest, step=step))
        return await self._ask(replace(request, repeatable=False))  # it goes on at once, and so is not paused any more

    async def delete(self, job: str) -> Freed:
        """Delete a job that has ended, with all its files; answers what that freed."""
        return await self._wire.call(delete(at("jobs", job)), Freed)

    async def _ask(self, request: Request) -> AsyncJob:
        return AsyncJob(self, await self._wire.call(request, JobView))


class Jobs(Face[AsyncJobs]):
    """Jobs of the service. Every method raises the error that the server's answer stands for, see `spec/errors.py`."""

    create = blocking(AsyncJobs.create, Job)
    plan = blocking(AsyncJobs.plan)
    clone = blocking(AsyncJobs.clone, Job)
    branch = blocking(AsyncJobs.branch, Job)
    list = iterating(AsyncJobs.list, Job)
    get = blocking(AsyncJobs.get, Job)
    detail = blocking(AsyncJobs.detail)
    wait = blocking(AsyncJobs.wait, Job)
    events = iterating(AsyncJobs.events)
    watch = iterating(AsyncJobs.watch)
    logs = iterating(AsyncJobs.logs)
    reports = iterating(AsyncJobs.reports)
    metrics = iterating(AsyncJobs.metrics)
    results = blocking(AsyncJobs.results)
    chart = blocking(AsyncJobs.chart)
    pause = blocking(AsyncJobs.pause, Job)
    resume = blocking(AsyncJobs.resume, Job)
    cancel = blocking(AsyncJobs.cancel, Job)
    declare_lost = blocking(AsyncJobs.declare_lost, Job)
    change = blocking(AsyncJobs.change, Job)
    rollback = blocking(AsyncJobs.rollback, Job)
    delete = blocking(AsyncJobs.delete)
