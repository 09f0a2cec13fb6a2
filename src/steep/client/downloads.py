"""Downloads that go on where they were: streamed to a file beside the target, checked, and only then given its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO

from steep.artifacts.files import full_disk_stops, hash_file
from steep.client.requests import Request, Trouble
from steep.client.watching import Reconnecting
from steep.client.wire import Wire
from steep.spec.api.files import StoredFile
from steep.spec.errors import DamagedArtifact, ServerUnavailable, SteepError

Count = Callable[[int], None]


def silent(num_bytes: int) -> None:
    """Shows nothing."""


async def download(wire: Wire, request: Request, file: StoredFile, target: Path, count: Count = silent) -> Path:
    """Bring a file here. One that is here already is left as it is; what an earlier call brought is gone on from.

    Args:
        wire: to the server.
        request: for the file.
        file: what it must be.
        target: where to.
        count: called with the number of bytes whenever some have come, or were here already.

    Raises:
        DamagedArtifact: what came is not what the server said, twice.
        OutOfSpace: it does not fit; free space and call again.
        ServerUnavailable: the server has been away for ten minutes; what has come is kept.
    """
    is_told_apart = file.blake3 is not None  # else what is here may be another one of the same size
    if is_told_apart and target.is_file() and await wire.aside(_is, target, file):
        count(file.size_bytes)
        return target
    part = target.with_name(f"{target.name}.part")
    with full_disk_stops(target):
        if not is_told_apart:
            part.unlink(missing_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            await _fetch(wire, request, file, part, count)
            if await wire.aside(_is, part, file):
                part.replace(target)
                return target
            count(-part.stat().st_size)
            part.unlink()  # of an earlier version, or damaged: once more from the beginning
    raise DamagedArtifact("what came is not what was promised", where=str(target), cure="Verify it on the server.")


async def download_all(
    wire: Wire, files: list[StoredFile], request_for: Callable[[str], Request], directory: Path, count: Count = silent
) -> Path:
    """Bring files here, below a directory; a manifest comes last, so that it stands for all of them. Raises as `download`."""
    targets = {file.path: directory / _inside(file.path) for file in files}
    for file in sorted(files, key=lambda one: (one.path == "manifest.json", one.path)):
        await download(wire, request_for(file.path), file, targets[file.path], count)
    return directory


async def _fetch(wire: Wire, request: Request, file: StoredFile, part: Path, count: Count) -> None:
    """Append to `part` until it is as long as the file."""
    reconnecting = Reconnecting(wire)
    with open(part, "ab") as stream:
        count(stream.tell())
        while stream.tell() < file.size_bytes:
            error = ServerUnavailable("the server ended the file before its end", where=wire.server)
            try:
                await _append(wire, request, stream, reconnecting, count)
            except Trouble as trouble:
                error = wire.unavailable(trouble)
            except ServerUnavailable as unavailable:
                error = unavailable
            if stream.tell() < file.size_bytes:
                await reconnecting.wait(error)


async def _append(wire: Wire, request: Request, stream: IO[bytes], reconnecting: Reconnecting, count: Count) -> None:
    begin = stream.tell()
    headers = {**request.headers, "Range": f"bytes={begin}-"} if begin else request.headers
    async with wire.open(replace(request, headers=headers)) as answer:
        if begin and answer.status != 206:  # the server sends all of it again
            stream.truncate(0)
            stream.seek(0)
            count(-begin)
        async for piece in answer.pieces:
            await wire.aside(stream.write, piece)
            count(len(piece))
            reconnecting.heard()


def _is(path: Path, file: StoredFile) -> bool:
    return path.stat().st_size == file.size_bytes and file.blake3 in (None, hash_file(path))


def _inside(path: str) -> PurePosixPath:
    """The path, if it leads nowhere else: a server is not believed that it does not."""
    inside = PurePosixPath(path)
    if not inside.parts or inside.is_absolute() or ".." in inside.parts:
        raise SteepError(f"the server names a file {path!r}, which would lie elsewhere", where="download")
    return inside
