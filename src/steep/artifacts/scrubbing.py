"""Checkpoints read back a piece at a time, by whoever has time for it and must not take the disk from others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.manifest import FileRecord
from steep.spec.errors import DamagedArtifact

PIECE_BYTES = 1 << 20

_CURE = "Use another checkpoint, or fetch this one from the store again."


def read_back(catalog: CheckpointCatalog, step: int) -> Iterator[int]:
    """Read every byte of a checkpoint and compare with its manifest. Yields how many bytes were read, after each piece.

    The bytes come from the disk, as far as the system lets one ask for that: what lies in its memory proves nothing, and is
    left to those who need it.

    Raises:
        InvalidInput: there is no such checkpoint.
        DamagedArtifact: names the file that is missing, too short, or whose hash differs.
        OSError: a file cannot be read now.
    """
    for name, record in catalog.get(step).files.items():
        yield from _read_file(catalog.path(step) / name, record)


def _read_file(path: Path, record: FileRecord) -> Iterator[int]:
    try:
        stream = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below
    except FileNotFoundError as error:
        raise DamagedArtifact("the file is missing", where=str(path), cure=_CURE) from error
    hasher, size_bytes = blake3(), 0
    with stream:
        _forget(stream)
        while piece := stream.read(PIECE_BYTES):
            hasher.update(piece)
            size_bytes += len(piece)
            yield len(piece)
        _forget(stream)
    if size_bytes != record.size_bytes:
        what = f"the file has {size_bytes:,} bytes; its manifest says {record.size_bytes:,}"
        raise DamagedArtifact(what, where=str(path), cure=_CURE)
    if hasher.hexdigest() != record.blake3:
        raise DamagedArtifact("the file's content does not match its hash", where=str(path), cure=_CURE)


def _forget(stream: BinaryIO) -> None:
    """Drop the system's own copy of a file, where it can be asked to."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
