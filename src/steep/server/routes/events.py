"""What happens: as a list, or as it happens (server-sent events)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response, StreamingResponse

from steep.server.auth import Caller, Here, Viewer
from steep.server.problems import TooMany
from steep.server.promises import PromisingRoute
from steep.server.routes.answers import After, Documented, PageSize, answer, problems
from steep.server.routes.jobs import Job, seen
from steep.server.service import Service
from steep.spec.api.common import Page
from steep.spec.errors import NotFound
from steep.spec.events import Event, EventKind

router = APIRouter(tags=["events"], route_class=PromisingRoute)

ENDS = frozenset({EventKind.SUCCEEDED, EventKind.FAILED, EventKind.CANCELLED})
KEEP_ALIVE_SECONDS = 15.0
LONGEST_STREAM_SECONDS = 3600.0
"""Then the client comes again, with a key that is looked at anew."""
_AT_ONCE = 500

Accept = Annotated[str, Header(description="`text/event-stream` streams what happens.")]
LastEventId = Annotated[int | None, Header(alias="Last-Event-ID", ge=0, le=2**62, description="Resumes a stream.")]
Kinds = Annotated[list[EventKind] | None, Query(alias="kind", description="Of these kinds only.")]

_STREAM: Documented = {200: {"model": Page[Event], "content": {"text/event-stream": {"schema": {"type": "string"}}}}}


@router.get(
    "/jobs/{job}/events", summary="What happened to a job", response_model=Page[Event],
    responses={**_STREAM, **problems(404)},
)  # fmt: skip
async def of_job(
    here: Here, caller: Viewer, job: Job, after: After = None, page_size: PageSize = 50, kind: Kinds = None,
    accept: Accept = "application/json", last_event_id: LastEventId = None,
) -> Response:  # fmt: skip
    """From the event after `after` on. A stream ends after the event that ends the job."""
    await asyncio.to_thread(seen, here, caller, job)
    return await _answer(here, caller, job, after, page_size, kind, accept, last_event_id)


@router.get(
    "/events", summary="What happened to all jobs", response_model=Page[Event], responses={**_STREAM, **problems()}
)
async def of_all(
    here: Here, caller: Viewer, after: After = None, page_size: PageSize = 50, kind: Kinds = None,
    accept: Accept = "application/json", last_event_id: LastEventId = None,
) -> Response:  # fmt: skip
    """From the event after `after` on, of all jobs that the key sees."""
    return await _answer(here, caller, None, after, page_size, kind, accept, last_event_id)


async def _answer(
    here: Service, caller: Caller, job: str | None, after: int | None, page_size: int, kind: list[EventKind] | None,
    accept: str, last_event_id: int | None,
) -> Response:  # fmt: skip
    stream = _Stream(here, caller, job, tuple(kind or ()))
    begin = after or 0 if last_event_id is None else last_event_id
    if "text/event-stream" in accept:
        if here.num_streams >= here.settings.bounds.streams:
            raise TooMany("too many streams are open", cure="Close some, or try again in a while.")
        return StreamingResponse(
            stream.lines(begin), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )
    found = await asyncio.to_thread(stream.read, begin, page_size + 1)
    return answer(Page(items=tuple(found[:page_size]), page_size=page_size, has_more=len(found) > page_size))


class _Stream:
    """Events as one caller may see them."""

    def __init__(self, here: Service, caller: Caller, job: str | None, kinds: tuple[EventKind, ...]) -> None:
        self._here = here
        self._caller = caller
        self._job = job
        self._kinds = kinds

    def read(self, after: int, limit: int) -> list[Event]:
        """Those after one."""
        return self._here.store.events.after(
            after, job_id=self._job, projects=self._caller.projects, kinds=self._kinds, limit=limit
        )

    async def lines(self, after: int) -> AsyncIterator[bytes]:
        """The stream. It ends with the job, with the server, or after an hour."""
        self._here.num_streams += 1
        try:
            async for line in self._lines(after):
                yield line
        finally:
            self._here.num_streams -= 1

    async def _lines(self, after: int) -> AsyncIterator[bytes]:
        news, begun = self._here.news, time.monotonic()
        yield b": here\n\n"
        while not news.is_over and time.monotonic() - begun < LONGEST_STREAM_SECONDS:
            newest = await asyncio.to_thread(self._here.store.events.last_id)
            is_over = self._job is not None and await asyncio.to_thread(self._has_ended)
            found = await asyncio.to_thread(self.read, after, _AT_ONCE)
            for event in found:
                after = event.id
                yield f"id: {event.id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n".encode()
            if len(found) == _AT_ONCE:
                continue
            if is_over:
                return
            if await news.beyond(newest, KEEP_ALIVE_SECONDS) <= newest:
                yield b": still here\n\n"

    def _has_ended(self) -> bool:
        """Asked before the events are read, so that the last one is among them."""
        assert self._job is not None
        try:
            return self._here.store.jobs.get(self._job, self._here.now()).standing.is_terminal
        except NotFound:
            return True  # it was deleted
