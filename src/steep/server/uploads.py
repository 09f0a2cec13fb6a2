"""Uploaded files: streamed to disk, hashed on the way, in place before they are known, gone before they are forgotten."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from blake3 import blake3

from steep.artifacts.files import full_disk_stops, make_directory, sync_directory
from steep.server.removal import remove_tree
from steep.server.service import Service
from steep.server.store.ids import hash_of, new_id
from steep.server.store.projects import require_room
from steep.server.store.repeats import Idempotency
from steep.spec.api.checkpoints import Freed
from steep.spec.api.files import FileView
from steep.spec.errors import InvalidInput, NotFound, OutOfSpace
from steep.spec.units import format_bytes

log = logging.getLogger(__name__)

LONGEST_NAME_BYTES = 200
SPARE_BYTES = 1 << 30
"""An upload leaves this much of the disk free: jobs need it more."""

LEFT_SECONDS = 3600.0
"""What nobody has written to for so long is no upload that goes on."""

LOOK_BYTES = 64 << 20
"""Each time that so many have come, it is looked again whether there is room: others write too."""


def plain_name(name: str) -> str:
    """A name that is one part of a path and nothing else.

    Raises:
        InvalidInput: it is none.
    """
    is_odd = (
        name in ("", ".", "..")
        or name.startswith(".")
        or "/" in name
        or "\\" in name
        or any(unicodedata.category(letter) in ("Cc", "Cs", "Cf", "Zl", "Zp") for letter in name)
        or len(name.encode("utf-8", "replace")) > LONGEST_NAME_BYTES
    )
    if is_odd:
        raise InvalidInput(
            "is not the name of a file", where="name", cure="Give a plain name such as `manual.txt`, without a path."
        )
    return name


async def receive(
    service: Service,
    pieces: AsyncIterator[bytes],
    *,
    name: str,
    project: str,
    blake3_hex: str | None,
    created_by: str,
    once: Idempotency | None = None,
) -> FileView:
    """Take in a file. The same request again answers the file that is there: whether it is the same is told by its bytes.

    Args:
        service: where.
        pieces: of its bytes, as they come.
        name: as its owner calls it; its ending tells its format.
        project: whose it is.
        blake3_hex: what its hash must be.
        created_by: id of the key.
        once: names the request.

    Raises:
        Conflict: what names the request was used for another one.
        InvalidInput: what came has another hash, is larger than allowed, or there is no such project or name.
        OutOfSpace: it does not fit.
    """
    file_id = new_id("file")
    directory = service.settings.file_directory(file_id)
    target = directory / plain_name(name)
    await asyncio.to_thread(_require_room, service, project, 0)
    try:
        await asyncio.to_thread(make_directory, directory)
        size_bytes, digest = await _write(service, pieces, target, project)
        if blake3_hex is not None and digest != blake3_hex.lower():
            raise InvalidInput(
                f"what came has the hash {digest}, not {blake3_hex}", where="blake3", cure="Send it again."
            )
        known = None if once is None else replace(once, request_hash=hash_of(f"{project} {name} {digest}"))
        view = await asyncio.to_thread(
            service.store.files.add, name, project, size_bytes, digest, service.now(),
            created_by=created_by, file_id=file_id, once=known,
        )  # fmt: skip
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        raise
    if view.id != file_id:  # the same request made it before
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
    return view


def remove_file(service: Service, file_id: str) -> Freed:
    """Delete a file: it is forgotten first, so that no job is given one that is half gone.

    Raises:
        NotFound: there is none.
    """
    service.store.files.delete(file_id, service.now())
    return Freed(freed_bytes=remove_tree(service.settings.file_directory(file_id)))


def sweep(service: Service) -> int:
    """Delete what an earlier server left of uploads and deletions that were cut off, and that nobody can ask for.

    Returns the bytes that it freed. What was written to of late may be an upload that another replica takes in.
    """
    directories = list((service.settings.data / "files").iterdir())  # before it is asked which are known
    known, freed = service.store.files.ids(), 0
    for directory in directories:
        if directory.name in known:
            continue
        try:
            if service.now() - _touched_at(directory) > LEFT_SECONDS:
                freed += remove_tree(directory)
        except OSError as error:
            log.warning("%s is left of an upload, and cannot be deleted: %s", directory, error)
    if freed:
        log.info("%s freed that were left of uploads", format_bytes(freed))
    return freed


def _touched_at(directory: Path) -> float:
    """When something in it was last written."""
    return max(path.lstat().st_mtime for path in (directory, *directory.rglob("*")))


def _require_room(service: Service, project: str, size_bytes: int) -> None:
    """Whether an upload may go on that has come to so many bytes."""
    try:
        view = service.store.projects.get(project)
    except NotFound as error:
        raise InvalidInput(error.what, where="project", cure=error.cure) from error
    require_room(project, view.quota.stored_bytes, view.stored_bytes, size_bytes)
    if shutil.disk_usage(service.settings.data).free < SPARE_BYTES:
        raise OutOfSpace("there is no room for uploads", where="data directory", cure="Delete what is needed no more.")


async def _write(service: Service, pieces: AsyncIterator[bytes], target: Path, project: str) -> tuple[int, str]:
    hasher, size_bytes, looked_at_bytes = blake3(), 0, 0
    with full_disk_stops(target), open(target, "xb") as stream:

        def put(piece: bytes) -> None:
            stream.write(piece)
            hasher.update(piece)

        def finish() -> None:
            stream.flush()
            os.fsync(stream.fileno())
            sync_directory(target.parent)

        async for piece in pieces:
            size_bytes += len(piece)
            if size_bytes > service.settings.bounds.upload_bytes:
                raise InvalidInput("is larger than files may be here", where="body", cure="Split it.")
            await asyncio.to_thread(put, piece)
            if size_bytes - looked_at_bytes >= LOOK_BYTES:
                looked_at_bytes = size_bytes
                await asyncio.to_thread(_require_room, service, project, size_bytes)
        await asyncio.to_thread(finish)
    return size_bytes, str(hasher.hexdigest())
