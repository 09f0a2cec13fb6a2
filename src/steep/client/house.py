"""The service itself: its devices, its secrets, what happens in all of it, who did what."""

from __future__ import annotations

from collections.abc import AsyncIterator

from steep.client.blocking import Face, blocking, iterating
from steep.client.requests import at, body_of, delete, get, put
from steep.client.watching import stream_events
from steep.client.wire import Wire
from steep.spec.api.common import Page
from steep.spec.api.house import AuditEntry, DeviceView, SecretRequest, SecretView
from steep.spec.events import Event


class AsyncDevices:
    """GPUs, or CPU slots where there are none."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def list(self) -> AsyncIterator[DeviceView]:
        """What there is, who holds it, and until when."""
        async for view in self._wire.pages(get("/devices"), Page[DeviceView]):
            yield view


class AsyncSecrets:
    """Secrets that jobs refer to by name; they are stored encrypted, and no value of them is ever answered."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def list(self, *, project: str | None = None) -> AsyncIterator[SecretView]:
        """Names of all secrets that the key may use."""
        async for view in self._wire.pages(get("/secrets", project=project), Page[SecretView]):
            yield view

    async def set(self, name: str, value: str, *, project: str | None = None) -> SecretView:
        """Store a secret, in place of an earlier one of that name."""
        return await self._wire.call(
            put(at("secrets", name), body_of(SecretRequest, value=value), project=project), SecretView
        )

    async def delete(self, name: str, *, project: str | None = None) -> None:
        """Forget a secret."""
        await self._wire.send(delete(at("secrets", name), project=project))


class AsyncEvents:
    """What happens to all jobs that the key may see."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def list(self, *, after: int | None = None) -> AsyncIterator[Event]:
        """What has happened so far, from the event after an id on."""
        async for event in self._wire.pages_after(get("/events"), Page[Event], lambda one: one.id, after):
            yield event

    async def watch(self, *, after: int | None = None) -> AsyncIterator[Event]:
        """What has happened and what happens, for ever. A lost connection is made again, and nothing is missed."""
        async for event in stream_events(self._wire, get("/events"), after):
            if event is not None:
                yield event


class AsyncAudit:
    """Who did what."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def list(self) -> AsyncIterator[AuditEntry]:
        """All entries, latest first."""
        async for entry in self._wire.pages(get("/audit"), Page[AuditEntry]):
            yield entry


class Devices(Face[AsyncDevices]):
    """GPUs, or CPU slots where there are none."""

    list = iterating(AsyncDevices.list)


class Secrets(Face[AsyncSecrets]):
    """Secrets that jobs refer to by name; they are stored encrypted, and no value of them is ever answered."""

    list = iterating(AsyncSecrets.list)
    set = blocking(AsyncSecrets.set)
    delete = blocking(AsyncSecrets.delete)


class Events(Face[AsyncEvents]):
    """What happens to all jobs that the key may see."""

    list = iterating(AsyncEvents.list)
    watch = iterating(AsyncEvents.watch)


class Audit(Face[AsyncAudit]):
    """Who did what."""

    list = iterating(AsyncAudit.list)
