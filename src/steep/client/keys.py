"""API keys, and the projects that they and jobs belong to."""

from __future__ import annotations

from collections.abc import AsyncIterator

from steep.client.blocking import Face, blocking, iterating
from steep.client.reading import given
from steep.client.requests import at, body_of, create, get, patch, post
from steep.client.wire import Wire
from steep.spec.api.common import Page
from steep.spec.api.keys import KeyChange, KeyRequest, KeyUsage, KeyView, NewKey, Role
from steep.spec.api.projects import Keeping, ProjectRequest, ProjectView, Quota


class AsyncKeys:
    """API keys."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def create(
        self,
        name: str,
        *,
        role: Role = "member",
        project: str | None = None,
        expires_in_seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> NewKey:
        """Make a key. Its secret is in the answer, and is never shown again."""
        wanted = given(project=project, expires_in_seconds=expires_in_seconds)
        body = body_of(KeyRequest, name=name, role=role, **wanted)
        return await self._wire.call(create("/keys", body, key=idempotency_key), NewKey)

    async def list(self) -> AsyncIterator[KeyView]:
        """All keys, revoked ones too."""
        async for view in self._wire.pages(get("/keys"), Page[KeyView]):
            yield view

    async def get(self, key: str) -> KeyView:
        """The key with this id."""
        return await self._wire.call(get(at("keys", key)), KeyView)

    async def change(self, key: str, *, name: str | None = None, role: Role | None = None) -> KeyView:
        """Change a key's name or role; what is not given stays."""
        return await self._wire.call(patch(at("keys", key), body_of(KeyChange, **given(name=name, role=role))), KeyView)

    async def revoke(self, key: str) -> KeyView:
        """Let a key open nothing from now on; what was done with it stays on record."""
        return await self._wire.call(post(at("keys", key, "revoke")), KeyView)

    async def usage(self, key: str, *, bucket_seconds: float | None = None) -> KeyUsage:
        """Requests made with a key, by hour or by day."""
        return await self._wire.call(get(at("keys", key, "usage"), bucket_seconds=bucket_seconds), KeyUsage)


class AsyncProjects:
    """Projects: who may use how much."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def create(
        self, name: str, *, share: float = 1.0, quota: Quota | None = None, keep: Keeping | None = None
    ) -> ProjectView:
        """Make a project."""
        body = body_of(ProjectRequest, name=name, share=share, **given(quota=quota, keep=keep))
        return await self._wire.call(create("/projects", body), ProjectView)

    async def list(self) -> AsyncIterator[ProjectView]:
        """All projects that the key may see, and what they use."""
        async for view in self._wire.pages(get("/projects"), Page[ProjectView]):
            yield view

    async def change(
        self, name: str, *, share: float | None = None, quota: Quota | None = None, keep: Keeping | None = None
    ) -> ProjectView:
        """Change a project's share, quota, or what it keeps of jobs that have ended; what is not given stays."""
        body = body_of(ProjectRequest, name=name, **given(share=share, quota=quota, keep=keep))
        return await self._wire.call(patch(at("projects", name), body), ProjectView)


class Keys(Face[AsyncKeys]):
    """API keys."""

    create = blocking(AsyncKeys.create)
    list = iterating(AsyncKeys.list)
    get = blocking(AsyncKeys.get)
    change = blocking(AsyncKeys.change)
    revoke = blocking(AsyncKeys.revoke)
    usage = blocking(AsyncKeys.usage)


class Projects(Face[AsyncProjects]):
    """Projects: who may use how much."""

    create = blocking(AsyncProjects.create)
    list = iterating(AsyncProjects.list)
    change = blocking(AsyncProjects.change)
