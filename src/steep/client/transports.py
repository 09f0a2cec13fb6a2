"""Two ways to send a request: one that blocks and one that waits. All that the client does is written once, on top of them.

Each method is a coroutine. Those of the blocking transport never wait: they are done when they return, so that
`client/blocking.py` can run whatever is built on them without an event loop.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import httpx

from steep.client.requests import BASE, Answer, Request, Trouble

T = TypeVar("T")

CONNECT_SECONDS = 5.0
KEEPALIVE_SECONDS = 4.0  # less than servers keep idle connections, so that none dies while a request is on its way


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer whose body comes piece by piece; as bytes, as they were sent."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]

    async def read(self) -> Answer:
        """All of it at once."""
        return Answer(self.status, self.headers, b"".join([piece async for piece in self.pieces]))


class Transport(Protocol):
    """Sends requests. Every method that talks to the server raises Trouble when there is no answer."""

    async def send(self, request: Request) -> Answer:
        """Send a request and read the whole answer."""

    def open(self, request: Request) -> AbstractAsyncContextManager[Stream]:
        """Send a request and read the answer piece by piece, in the block."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""

    async def aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do something that takes a while, such as reading a large file, without holding others up."""

    async def close(self) -> None:
        """Close all connections."""


class BlockingTransport:
    """Sends requests in the thread that asks. Satisfies `Transport`.

    Args:
        server: address, such as `http://localhost:8470`.
        headers: of every request.
        timeout_seconds: how long the server may be silent while it is to read or to answer.
    """

    def __init__(self, server: str, headers: Mapping[str, str], timeout_seconds: float) -> None:
        self._client = httpx.Client(**_settings(server, headers, timeout_seconds))

    async def send(self, request: Request) -> Answer:
        """See `Transport.send`."""
        with _troubles():
            response = self._client.send(self._built(request))
        return Answer(response.status_code, _headers(response), response.content)

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Stream]:
        """See `Transport.open`."""
        with _troubles():
            response = self._client.send(self._built(request), stream=True)
        try:
            async with aclosing(self._pieces(response)) as pieces:
                yield Stream(response.status_code, _headers(response), pieces)
        finally:
            response.close()

    async def sleep(self, seconds: float) -> None:
        """See `Transport.sleep`."""
        time.sleep(seconds)

    async def aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """See `Transport.aside`."""
        return work(*arguments)

    async def close(self) -> None:
        """See `Transport.close`."""
        self._client.close()

    def _built(self, request: Request) -> httpx.Request:
        content = request.body() if callable(request.body) else request.body
        return _build(self._client, request, content)

    @staticmethod
    async def _pieces(response: httpx.Response) -> AsyncGenerator[bytes, None]:
        with _troubles():
            for piece in response.iter_raw():
                yield piece


class WaitingTransport:
    """Sends requests in an event loop, of asyncio or trio. Satisfies `Transport`. See `BlockingTransport`."""

    def __init__(self, server: str, headers: Mapping[str, str], timeout_seconds: float) -> None:
        self._client = httpx.AsyncClient(**_settings(server, headers, timeout_seconds))

    async def send(self, request: Request) -> Answer:
        """See `Transport.send`."""
        with _troubles():
            response = await self._client.send(self._built(request))
        return Answer(response.status_code, _headers(response), response.content)

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Stream]:
        """See `Transport.open`."""
        with _troubles():
            response = await self._client.send(self._built(request), stream=True)
        try:
            async with aclosing(self._pieces(response)) as pieces:
                yield Stream(response.status_code, _headers(response), pieces)
        finally:
            await response.aclose()

    async def sleep(self, seconds: float) -> None:
        """See `Transport.sleep`."""
        import anyio

        await anyio.sleep(seconds)

    async def aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """See `Transport.aside`."""
        import anyio.to_thread

        return await anyio.to_thread.run_sync(work, *arguments)

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._client.aclose()

    def _built(self, request: Request) -> httpx.Request:
        content = self._content(request.body()) if callable(request.body) else request.body
        return _build(self._client, request, content)

    async def _content(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        while piece := await self.aside(next, pieces, b""):
            yield piece

    @staticmethod
    async def _pieces(response: httpx.Response) -> AsyncGenerator[bytes, None]:
        with _troubles():
            async for piece in response.aiter_raw():
                yield piece


def _settings(server: str, headers: Mapping[str, str], timeout_seconds: float) -> dict[str, Any]:
    here = httpx.URL(server).host in ("localhost", "127.0.0.1", "::1")
    return {
        "base_url": server + BASE,
        "trust_env": not here,  # a proxy cannot reach this machine's own addresses
        "verify": server.startswith("https:"),  # certificates take a while to read, and nothing else needs them
        "headers": {"User-Agent": "steep", "Accept-Encoding": "identity", **headers},
        "timeout": httpx.Timeout(timeout_seconds, connect=CONNECT_SECONDS),
        "limits": httpx.Limits(keepalive_expiry=KEEPALIVE_SECONDS),
    }


def _build(client: httpx.Client | httpx.AsyncClient, request: Request, content: Any) -> httpx.Request:
    return client.build_request(
        request.method, request.path, params=request.parameters, headers=dict(request.headers), content=content
    )


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


@contextmanager
def _troubles() -> Iterator[None]:
    """Whatever keeps an answer from coming is Trouble; only what failed before anything was sent was surely not seen."""
    try:
        yield
    except httpx.HTTPError as error:
        unseen = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        why = str(error) or type(error).__name__
        raise Trouble(why, reached=not unseen) from error
