"""The wire: sends requests again where that helps, turns problems into errors and answers into models, follows pages and
streams. Everything that speaks to a server goes through here."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from steep.client.backoff import Backoff
from steep.client.config import START
from steep.client.problems import NOTHING_DONE, PASSING, error_of, retry_after_seconds
from steep.client.requests import Answer, Request, Trouble
from steep.client.transports import Stream, Transport
from steep.spec.api.common import Page
from steep.spec.errors import ServerUnavailable, SteepError

Model = TypeVar("Model", bound=BaseModel)
Item = TypeVar("Item")
T = TypeVar("T")

PAGE_SIZE = 200


class Wire:
    """What all parts of the client share.

    Args:
        transport: sends the requests.
        server: its address, for messages.
        patience_seconds: how long a request is sent again and again while the server is away or overloaded.
    """

    def __init__(self, transport: Transport, server: str, *, patience_seconds: float) -> None:
        self.server = server
        self.patience_seconds = patience_seconds
        self._transport = transport

    async def send(self, request: Request, *, patience_seconds: float | None = None) -> Answer:
        """Send a request, and again while that may help, and return its answer.

        Args:
            request: what to ask.
            patience_seconds: how long to try; by default as long as all requests.

        Raises:
            SteepError: the error that the server's answer stands for.
            ServerUnavailable: there was none in time.
        """
        patience_seconds = self.patience_seconds if patience_seconds is None else patience_seconds
        backoff, until = Backoff(), time.monotonic() + patience_seconds
        while True:
            try:
                answer = await self._transport.send(request)
            except Trouble as trouble:
                error: SteepError = self.unavailable(trouble)
                wait_seconds = backoff.pause_seconds()
                again = request.repeatable or not trouble.reached
            else:
                if answer.status < 300:
                    return answer
                error = error_of(answer, self.server)
                wait_seconds = retry_after_seconds(answer) or backoff.pause_seconds()
                again = answer.status in (PASSING if request.repeatable else NOTHING_DONE)
            if not again or time.monotonic() + wait_seconds > until:
                raise error
            await self._transport.sleep(wait_seconds)

    async def call(self, request: Request, model: type[Model], *, patience_seconds: float | None = None) -> Model:
        """Send a request and read what it answers. See `send`."""
        return self._read(await self.send(request, patience_seconds=patience_seconds), model)

    async def pages(self, request: Request, model: type[Page[Item]]) -> AsyncIterator[Item]:
        """The items of a list, page after page, each fetched when it is needed. Raises as `send`."""
        number, more = 1, True
        while more:
            query = {"page_size": PAGE_SIZE, **request.query, "page": number}
            page = await self.call(replace(request, query=query), model)
            for item in page.items:
                yield item
            number, more = number + 1, page.has_more

    async def pages_after(
        self, request: Request, model: type[Page[Item]], position: Callable[[Item], int], after: int | None
    ) -> AsyncIterator[Item]:
        """The items of a list that grows at its end, from the one after a number on. Raises as `send`.

        Args:
            request: asks for the list.
            model: of a page.
            position: the number of an item.
            after: the number of the last one that is known; None begins with the first.
        """
        more = True
        while more:
            query = {"page_size": PAGE_SIZE, **request.query, "after": after}
            page = await self.call(replace(request, query=query), model)
            for item in page.items:
                after = position(item)
                yield item
            more = page.has_more and bool(page.items)

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Stream]:
        """Send a request, once, and read its answer piece by piece in the block.

        Raises:
            Trouble: the connection was not made, or was lost while it was read.
            SteepError: the error that the server's answer stands for.
        """
        async with self._transport.open(request) as stream:
            if stream.status >= 300:
                raise error_of(await stream.read(), self.server)
            yield stream

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await self._transport.sleep(seconds)

    async def aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do something that takes a while without holding others up."""
        return await self._transport.aside(work, *arguments)

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    def unavailable(self, trouble: Trouble) -> ServerUnavailable:
        """The error that trouble amounts to, when it does not pass."""
        if trouble.reached:
            what, cure = "the connection was lost", "Look whether it was done, then try again."
        else:
            what, cure = "the server cannot be reached", START
        return ServerUnavailable(f"{what} ({trouble.why})", where=self.server, cure=cure)

    def _read(self, answer: Answer, model: type[Model]) -> Model:
        try:
            return model.model_validate_json(answer.body)
        except ValidationError as error:
            issue = error.errors()[0]
            field = ".".join(map(str, issue["loc"])) or "the answer"
            raise SteepError(
                f"the server's answer is not what this client knows: {field}: {issue['msg']}",
                where=self.server,
                cure="Use a client of the server's version; is that address a Steep server?",
            ) from error
