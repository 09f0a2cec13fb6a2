"""Completions: what a model makes of a prompt, for trying it out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from starlette.requests import ClientDisconnect

from steep.server.auth import Here, Member
from steep.server.openai.answering import Answering, Pieces, order_of
from steep.server.openai.errors import errors
from steep.server.openai.names import find_model
from steep.server.openai.pool import Pool
from steep.server.openai.shapes import CompletionAnswer, CompletionOrder
from steep.server.promises import PromisingRoute
from steep.server.routes.answers import Documented, answer

router = APIRouter(prefix="/completions", tags=["openai_completions"], route_class=PromisingRoute)

_LOOK_SECONDS = 0.5
_STREAM: Documented = {
    200: {"model": CompletionAnswer, "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


def pool_of(request: Request) -> Pool:
    """The models that this server holds."""
    pool: Pool = request.app.state.pool
    return pool


Models = Annotated[Pool, Depends(pool_of)]


@router.post("", summary="Complete prompts", response_model=CompletionAnswer, responses={**_STREAM, **errors(404, 409)})
async def complete(here: Here, caller: Member, request: Request, models: Models, wanted: CompletionOrder) -> Response:
    """With a job's export (`ft:JOB`), one of its checkpoints (`ft:JOB:step-N`), or `tiny-base`. The first request loads the
    model, which takes some seconds. With `stream`, text comes as it is written (server-sent events)."""
    order = order_of(wanted)
    model = await asyncio.to_thread(find_model, here, caller, wanted.model)
    pieces, answering = models.write(model, order), Answering(wanted)
    if not wanted.stream:
        async with contextlib.aclosing(pieces):
            return answer(await _unless_gone(request, answering, pieces))
    try:
        first = await anext(pieces)
    except BaseException:
        await pieces.aclose()
        raise
    return StreamingResponse(
        _closing(answering.stream(first, pieces), pieces),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


async def _unless_gone(request: Request, answering: Answering, pieces: Pieces) -> CompletionAnswer:
    """The whole answer; nothing more is written for a client that has hung up."""
    writing = asyncio.create_task(answering.whole(pieces))
    try:
        while not writing.done():
            await asyncio.wait({writing}, timeout=_LOOK_SECONDS)
            if await request.is_disconnected():
                raise ClientDisconnect
        return await writing
    finally:
        writing.cancel()
        await asyncio.wait({writing})  # the pieces are its own until then


async def _closing(lines: AsyncIterator[bytes], pieces: Pieces) -> AsyncIterator[bytes]:
    """The lines; when they end, or the client does, the model is told to forget what is left."""
    try:
        async for line in lines:
            yield line
    finally:
        await pieces.aclose()
