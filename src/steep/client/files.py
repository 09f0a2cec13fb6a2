"""Files of one's own on the server, for jobs to read."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from steep.artifacts.files import hash_file
from steep.client.blocking import Face, blocking, iterating
from steep.client.downloads import Count, download, silent
from steep.client.requests import Request, at, delete, get
from steep.client.wire import Wire
from steep.spec.api.checkpoints import Freed
from steep.spec.api.common import Page
from steep.spec.api.files import FileView, StoredFile
from steep.spec.errors import InvalidInput

CHUNK_BYTES = 1 << 20


class AsyncFiles:
    """Uploaded files."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def upload(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        project: str | None = None,
        count: Count = silent,
    ) -> FileView:
        """Upload a file, streamed; the server checks its hash.

        Args:
            path: of the file here.
            name: its name there; by default as here.
            project: whose file it is; by default that of the key.
            count: called with the number of bytes whenever some were read; with less than none when it is sent again.

        Raises:
            InvalidInput: there is no such file.
        """
        source = Path(path)
        if not source.is_file():
            raise InvalidInput(
                "is not a file", where=str(source), cure="Give the path of a file; pack a directory first."
            )
        digest = await self._wire.aside(hash_file, source)
        query = {"name": name or source.name, "project": project, "blake3": digest}
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(source.stat().st_size),
            "Idempotency-Key": uuid.uuid4().hex,
        }
        return await self._wire.call(Request("POST", "/files", query, headers, _pieces(source, count)), FileView)

    async def list(self, *, project: str | None = None) -> AsyncIterator[FileView]:
        """All files that the key may see, or those of a project."""
        async for view in self._wire.pages(get("/files", project=project), Page[FileView]):
            yield view

    async def get(self, file: str) -> FileView:
        """The file with this id."""
        return await self._wire.call(get(at("files", file)), FileView)

    async def download(self, file: str, to: str | os.PathLike[str], *, count: Count = silent) -> Path:
        """Bring a file here, checked by its hash. A call that was cut off goes on when repeated.

        Args:
            file: its id.
            to: the path it gets here; below it, under its own name, where that is a directory.
            count: called with the number of bytes whenever some have come, or were here already.

        Raises:
            DamagedArtifact: it came otherwise than the server said, twice.
            OutOfSpace: it does not fit.
        """
        view, target = await self.get(file), Path(to)
        if target.is_dir():
            target = target / Path(view.name).name
        stored = StoredFile(path=view.name, size_bytes=view.size_bytes, blake3=view.blake3)
        return await download(self._wire, get(at("files", file, "content")), stored, target, count)

    async def delete(self, file: str) -> Freed:
        """Delete a file; answers what that freed."""
        return await self._wire.call(delete(at("files", file)), Freed)


def _pieces(path: Path, count: Count) -> Callable[[], Iterator[bytes]]:
    sent = 0

    def read() -> Iterator[bytes]:
        nonlocal sent
        count(-sent)
        sent = 0
        with open(path, "rb") as stream:
            while piece := stream.read(CHUNK_BYTES):
                yield piece
                sent += len(piece)
                count(len(piece))

    return read


class Files(Face[AsyncFiles]):
    """Uploaded files."""

    upload = blocking(AsyncFiles.upload)
    list = iterating(AsyncFiles.list)
    get = blocking(AsyncFiles.get)
    download = blocking(AsyncFiles.download)
    delete = blocking(AsyncFiles.delete)
