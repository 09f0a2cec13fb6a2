"""Following what happens on the server while it happens: lost connections are made again, and nothing is lost or told twice."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

from pydantic import ValidationError

from steep.client.backoff import Backoff
from steep.client.requests import Request, Trouble
from steep.client.sse import Message, MessageReader
from steep.client.wire import Wire
from steep.spec.errors import ServerUnavailable
from steep.spec.events import Event

PATIENCE_SECONDS = 600.0
"""How long a server may be away while it is watched."""


class Reconnecting:
    """Decides how long to wait for a server that was lost while it was listened to, and when to give up."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._backoff = Backoff()
        self._patience_seconds = max(PATIENCE_SECONDS, wire.patience_seconds)
        self._until = time.monotonic() + self._patience_seconds

    def heard(self) -> None:
        """The server is there."""
        self._backoff.reset()
        self._until = time.monotonic() + self._patience_seconds

    async def wait(self, error: ServerUnavailable | None = None) -> None:
        """Wait before the next try.

        Args:
            error: why the last one failed; None when the server just ended the stream.

        Raises:
            ServerUnavailable: that error, when the server has been away for too long.
        """
        if error is not None and time.monotonic() > self._until:
            raise error
        await self._wire.sleep(self._backoff.pause_seconds())


async def stream_events(wire: Wire, request: Request, after: int | None) -> AsyncIterator[Event | None]:
    """Events as they happen, for ever. None stands for an end of the stream, after which it is opened again if one goes on.

    Args:
        wire: to the server.
        request: for the events.
        after: id of the last event that is known; None begins with the first.

    Raises:
        SteepError: the error that the server's answer stands for.
        ServerUnavailable: it has been away for ten minutes.
    """
    reconnecting = Reconnecting(wire)
    while True:
        headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": str(after)})
        asked = replace(request, headers=headers, query={**request.query, "after": after})
        error: ServerUnavailable | None = None
        reader = MessageReader()
        try:
            async with wire.open(asked) as stream:
                async for piece in stream.pieces:
                    reconnecting.heard()
                    for event in filter(None, map(_event, reader.feed(piece))):
                        if after is None or event.id > after:
                            after = event.id
                            yield event
        except Trouble as trouble:
            error = wire.unavailable(trouble)
        except ServerUnavailable as unavailable:
            error = unavailable
        if error is None:
            yield None
        await reconnecting.wait(error)


def _event(message: Message) -> Event | None:
    """The event, or nothing for one of a kind that only a newer client knows."""
    try:
        return Event.model_validate_json(message.data)
    except ValidationError:
        return None
