"""Checkpoints in the service's catalog, and exports: list, keep, verify, delete, download."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from steep.client.blocking import Face, blocking, iterating
from steep.client.downloads import Count, download_all, silent
from steep.client.requests import at, body_of, create, delete, get, patch, post
from steep.client.wire import Wire
from steep.spec.api.checkpoints import CheckpointView, EvaluationRequest, Freed, PinRequest, Pruned, PruneRequest
from steep.spec.api.common import Page
from steep.spec.api.files import StoredFile
from steep.spec.api.jobs import JobView

AnyPath = str | os.PathLike[str]


class AsyncCheckpoints:
    """Checkpoints of jobs, each named by its job's id and its step."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def list(self, job: str) -> AsyncIterator[CheckpointView]:
        """All checkpoints of a job, by step."""
        async for view in self._wire.pages(get(at("jobs", job, "checkpoints")), Page[CheckpointView]):
            yield view

    async def get(self, job: str, step: int) -> CheckpointView:
        """One checkpoint."""
        return await self._wire.call(get(_of(job, step)), CheckpointView)

    async def pin(self, job: str, step: int) -> CheckpointView:
        """Keep a checkpoint, whatever retention says."""
        return await self._wire.call(patch(_of(job, step), PinRequest(pinned=True)), CheckpointView)

    async def unpin(self, job: str, step: int) -> CheckpointView:
        """Leave a checkpoint to retention again."""
        return await self._wire.call(patch(_of(job, step), PinRequest(pinned=False)), CheckpointView)

    async def verify(self, job: str, step: int) -> CheckpointView:
        """Have every byte of a checkpoint read and compared with its manifest."""
        return await self._wire.call(post(f"{_of(job, step)}/verify"), CheckpointView)

    async def delete(self, job: str, step: int) -> Freed:
        """Delete a checkpoint; answers what that freed."""
        return await self._wire.call(delete(_of(job, step)), Freed)

    async def evaluate(
        self, job: str, step: int, request: EvaluationRequest, *, idempotency_key: str | None = None
    ) -> JobView:
        """Have a checkpoint measured on further tasks and texts, by a job of its own.

        When that has succeeded, its numbers stand in the checkpoint's `scores`.
        """
        return await self._wire.call(create(f"{_of(job, step)}/evaluations", request, key=idempotency_key), JobView)

    async def prune(
        self, job: str, *, keep_last: int = 1, keep_best: int = 1, only_set_aside: bool = False, dry_run: bool = False
    ) -> Pruned:
        """Delete the checkpoints of a job that need not be kept, and what was set aside when it went back; or only say which
        would go.

        Args:
            job: its id.
            keep_last: so many of the newest stay.
            keep_best: and so many of the best. Pinned and selected ones stay, and what something descends from.
            only_set_aside: all of the job's own line stays.
            dry_run: nothing is deleted.
        """
        asked = {"keep_last": keep_last, "keep_best": keep_best, "only_set_aside": only_set_aside, "dry_run": dry_run}
        body = body_of(PruneRequest, **asked)
        return await self._wire.call(post(at("jobs", job, "checkpoints", "prune"), body), Pruned)

    async def files(self, job: str, step: int) -> AsyncIterator[StoredFile]:
        """The files of a checkpoint, its manifest among them."""
        async for file in self._wire.pages(get(f"{_of(job, step)}/files"), Page[StoredFile]):
            yield file

    async def download(self, job: str, step: int, to: AnyPath, *, count: Count = silent) -> Path:
        """Bring a checkpoint's files into a directory, each checked by its hash. A call that was cut off goes on when repeated.

        Args:
            job: its id.
            step: of the checkpoint.
            to: the directory; made where it is missing.
            count: called with the number of bytes whenever some have come, or were here already.

        Raises:
            DamagedArtifact: a file came otherwise than the server said, twice.
            OutOfSpace: they do not fit.
        """
        files = [file async for file in self.files(job, step)]
        base = f"{_of(job, step)}/files"
        return await download_all(self._wire, files, lambda path: get(base + _file(path)), Path(to), count)


class AsyncExports:
    """The models that jobs selected, ready for use."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def files(self, job: str) -> AsyncIterator[StoredFile]:
        """The files of a job's export."""
        async for file in self._wire.pages(get(at("jobs", job, "export", "files")), Page[StoredFile]):
            yield file

    async def download(self, job: str, to: AnyPath, *, count: Count = silent) -> Path:
        """Bring a job's export into a directory. See `AsyncCheckpoints.download`."""
        files = [file async for file in self.files(job)]
        base = at("jobs", job, "export", "files")
        return await download_all(self._wire, files, lambda path: get(base + _file(path)), Path(to), count)


def _of(job: str, step: int) -> str:
    return at("jobs", job, "checkpoints", step)


def _file(path: str) -> str:
    return at(*path.split("/"))


class Checkpoints(Face[AsyncCheckpoints]):
    """Checkpoints of jobs, each named by its job's id and its step."""

    list = iterating(AsyncCheckpoints.list)
    get = blocking(AsyncCheckpoints.get)
    pin = blocking(AsyncCheckpoints.pin)
    unpin = blocking(AsyncCheckpoints.unpin)
    verify = blocking(AsyncCheckpoints.verify)
    delete = blocking(AsyncCheckpoints.delete)
    evaluate = blocking(AsyncCheckpoints.evaluate)
    prune = blocking(AsyncCheckpoints.prune)
    files = iterating(AsyncCheckpoints.files)
    download = blocking(AsyncCheckpoints.download)


class Exports(Face[AsyncExports]):
    """The models that jobs selected, ready for use."""

    files = iterating(AsyncExports.files)
    download = blocking(AsyncExports.download)
