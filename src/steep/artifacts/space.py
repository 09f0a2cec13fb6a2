"""Room on the disk, asked for before it is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

from steep.spec.errors import OutOfSpace
from steep.spec.units import format_bytes


def free_bytes(path: Path) -> int:
    """Bytes that may still be written at `path`, which need not exist yet."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def require_space(path: Path, needed_bytes: int, purpose: str) -> None:
    """Make sure that something fits before any of it is written.

    Args:
        purpose: what the room is for, such as `checkpoint 200`.

    Raises:
        OutOfSpace: it does not; says how much is needed and how much there is.
    """
    free = free_bytes(path)
    if free < needed_bytes:
        raise OutOfSpace(
            f"{purpose} needs {format_bytes(needed_bytes)} and {format_bytes(free)} are free; "
            "everything committed before is safe",
            where=str(path),
            cure="Free some space and run the same command again; it goes on where it was.",
        )
