"""What the tests of this room share: a server, and both faces of the client behind one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest
from tests.client.service import KEY, Service

from steep.client.client import AsyncClient, Client

Do = Callable[..., Any]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pauses are short here."""
    monkeypatch.setattr("steep.client.backoff.FIRST_SECONDS", 0.01)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.stop()


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.address, KEY, patience_seconds=5.0) as made:
        yield made


@pytest.fixture(params=["blocking", "asyncio"])
def do(request: pytest.FixtureRequest, service: Service) -> Do:
    """Calls something of the client by its dotted name, as `do("jobs.get", "job-1")`, on either face. Lists are gathered."""

    def call(called: str, /, *arguments: Any, **options: Any) -> Any:
        if request.param == "blocking":
            return _blocking(service, called, arguments, options)
        return anyio.run(_waiting, service, called, arguments, options)

    return call


def _blocking(service: Service, name: str, arguments: Any, options: Any) -> Any:
    with Client(service.address, KEY, patience_seconds=5.0) as client:
        found: Any = client
        for part in name.split("."):
            found = getattr(found, part)
        result = found(*arguments, **options)
        return list(result) if isinstance(result, Iterator) else result


async def _waiting(service: Service, name: str, arguments: Any, options: Any) -> Any:
    async with AsyncClient(service.address, KEY, patience_seconds=5.0) as client:
        found: Any = client
        for part in name.split("."):
            found = getattr(found, part)
        result = found(*arguments, **options)
        if isinstance(result, AsyncIterator):
            return [item async for item in result]
        assert isinstance(result, Coroutine)
        return await result
