"""The SDK: `steep.Client`, and `steep.AsyncClient` for an event loop.

    client = steep.Client()
    job = client.jobs.create("job.yaml").wait(progress=True)
    client.exports.download(job.id, "models/handbook")

Both do the same: what they do is written once, see `client/blocking.py`.
"""

from __future__ import annotations

from typing import Self

from steep.client.blocking import finish
from steep.client.checkpoints import AsyncCheckpoints, AsyncExports, Checkpoints, Exports
from steep.client.config import find_settings
from steep.client.files import AsyncFiles, Files
from steep.client.house import (
    AsyncAudit,
    AsyncDevices,
    AsyncEvents,
    AsyncSecrets,
    Audit,
    Devices,
    Events,
    Secrets,
)
from steep.client.jobs import AsyncJobs, Jobs
from steep.client.keys import AsyncKeys, AsyncProjects, Keys, Projects
from steep.client.requests import bearer, get
from steep.client.transports import BlockingTransport, WaitingTransport
from steep.client.wire import Wire
from steep.spec.api.house import StatusView

PATIENCE_SECONDS = 30.0
TIMEOUT_SECONDS = 60.0


class AsyncClient:
    """Speaks to a Steep server, in an event loop of asyncio or trio. Use it as a context manager, or `close` it.

    Args:
        server: its address, such as `http://localhost:8470`; by default STEEP_SERVER, or what the config file says.
        key: an API key; by default STEEP_KEY, or what the config file says for that server.
        patience_seconds: how long a request is sent again while the server is away or overloaded.
        timeout_seconds: how long the server may be silent within a request.

    Raises:
        InvalidInput: no server is known.
        Unauthorized: no key is known.
    """

    def __init__(
        self,
        server: str | None = None,
        key: str | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        settings = find_settings(server, key)
        transport = WaitingTransport(settings.server, bearer(settings.key), timeout_seconds)
        self._wire = wire = Wire(transport, settings.server, patience_seconds=patience_seconds)
        self.server = settings.server
        self.jobs = AsyncJobs(wire)
        self.checkpoints = AsyncCheckpoints(wire)
        self.exports = AsyncExports(wire)
        self.files = AsyncFiles(wire)
        self.keys = AsyncKeys(wire)
        self.projects = AsyncProjects(wire)
        self.devices = AsyncDevices(wire)
        self.secrets = AsyncSecrets(wire)
        self.events = AsyncEvents(wire)
        self.audit = AsyncAudit(wire)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def status(self) -> StatusView:
        """How the service is."""
        return await self._wire.call(get("/status"), StatusView)

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()


class Client:
    """Speaks to a Steep server. Use it as a context manager, or `close` it.

    Args:
        server: its address, such as `http://localhost:8470`; by default STEEP_SERVER, or what the config file says.
        key: an API key; by default STEEP_KEY, or what the config file says for that server.
        patience_seconds: how long a request is sent again while the server is away or overloaded.
        timeout_seconds: how long the server may be silent within a request.

    Raises:
        InvalidInput: no server is known.
        Unauthorized: no key is known.
    """

    def __init__(
        self,
        server: str | None = None,
        key: str | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        settings = find_settings(server, key)
        transport = BlockingTransport(settings.server, bearer(settings.key), timeout_seconds)
        self._wire = wire = Wire(transport, settings.server, patience_seconds=patience_seconds)
        self.server = settings.server
        self.jobs = Jobs(AsyncJobs(wire))
        self.checkpoints = Checkpoints(AsyncCheckpoints(wire))
        self.exports = Exports(AsyncExports(wire))
        self.files = Files(AsyncFiles(wire))
        self.keys = Keys(AsyncKeys(wire))
        self.projects = Projects(AsyncProjects(wire))
        self.devices = Devices(AsyncDevices(wire))
        self.secrets = Secrets(AsyncSecrets(wire))
        self.events = Events(AsyncEvents(wire))
        self.audit = Audit(AsyncAudit(wire))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def status(self) -> StatusView:
        """How the service is."""
        return finish(self._wire.call(get("/status"), StatusView))

    def close(self) -> None:
        """Close all connections."""
        finish(self._wire.close())
