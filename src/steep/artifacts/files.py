"""Files that are whole or absent: atomic writes, durable directories, hashes."""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from blake3 import blake3

from steep.spec.errors import OutOfSpace, SteepError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM_IN_RUST = re.compile(rf"\(os error ({'|'.join(map(str, _NO_ROOM))})\)")
_CANNOT = (errno.EINVAL, errno.ENOTSUP)
_ZEROS = bytes(1 << 20)


@contextmanager
def full_disk_stops(where: Path) -> Iterator[None]:
    """Turn the system's "no space" into the error that pauses a run, that of libraries in Rust too."""
    try:
        yield
    except SteepError:
        raise
    except Exception as error:
        if not _says_no_room(error):
            raise
        raise OutOfSpace(
            "the disk is full; everything committed before is safe",
            where=str(where),
            cure="Free some space and run the same command again; it goes on where it was.",
        ) from error


def _says_no_room(error: Exception) -> bool:
    """safetensors and its like raise errors of their own, in which the system's stands only as text."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return True
    return _NO_ROOM_IN_RUST.search(str(error)) is not None


@contextmanager
def atomic_writer(path: Path, mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """Open a file that appears at `path`, whole and durable, when the block ends without an error."""
    staging = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp")
    with full_disk_stops(path):
        make_directory(path.parent)
        try:
            with open(staging, mode, **options) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            staging.replace(path)
            sync_directory(path.parent)
        except BaseException:
            staging.unlink(missing_ok=True)
            raise


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`, whole and durable, or not at all."""
    with atomic_writer(path) as stream:
        stream.write(content.encode("utf-8") if isinstance(content, str) else content)


def allocate(path: Path, size_bytes: int) -> None:
    """Make a file of so many zeros that are on the disk already: what is mapped and has no room ends the process (SIGBUS).

    Raises:
        OutOfSpace: it does not fit; nothing is left of it.
    """
    with full_disk_stops(path):
        try:
            with open(path, "wb") as stream:
                if not _reserve(stream.fileno(), size_bytes):
                    for start in range(0, size_bytes, len(_ZEROS)):
                        stream.write(_ZEROS[: size_bytes - start])
        except OSError:
            path.unlink(missing_ok=True)
            raise


def _reserve(descriptor: int, size_bytes: int) -> bool:
    """Ask the system for the room; whether it can do so at all."""
    if not (size_bytes and hasattr(os, "posix_fallocate")):
        return False
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    return True


def make_directory(directory: Path) -> None:
    """Make a directory, and those above it that are missing; each is durable in the one above."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Make renames within a directory durable, where the file system can: some network and USB disks cannot."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(descriptor)


def unshared_bytes(directory: Path) -> int:
    """Bytes that deleting a directory frees: of its files, those that no other directory shares. Others may delete meanwhile."""
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):
                found = Path(place, name).lstat()
                total += found.st_size if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 else 0
    return total


def hash_file(path: Path) -> str:
    """The blake3 digest of a file, in hex; memory-mapped, so large files cost no memory."""
    hasher = blake3()
    hasher.update_mmap(path)
    return hasher.hexdigest()


def hash_text(*parts: str) -> str:
    """The blake3 digest of some strings, in hex; parts cannot run into each other."""
    hasher = blake3()
    for part in parts:
        encoded = part.encode("utf-8")
        hasher.update(len(encoded).to_bytes(8, "little"))
        hasher.update(encoded)
    return hasher.hexdigest()
