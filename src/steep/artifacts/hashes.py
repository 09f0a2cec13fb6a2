"""Hashes of the files of a directory, kept with what tells that a file is still the one that was hashed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from steep.artifacts.files import hash_file

Hashes = Mapping[str, Mapping[str, Any]]
"""By relative path: `size_bytes`, `mtime_ns` and `blake3`."""


def files_in(directory: Path) -> dict[str, Path]:
    """The files below a directory by their relative paths, in order; links are none."""
    found = sorted(path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(directory).as_posix(): path for path in found}


def hash_files(directory: Path) -> dict[str, dict[str, Any]]:
    """Hash every file below a directory, to be written down."""
    return {name: {**_marks(path), "blake3": hash_file(path)} for name, path in files_in(directory).items()}


def hash_known(path: Path, name: str, known: Hashes) -> str:
    """The hash of a file: what was written down, unless the file is another one since; then it is read."""
    marks, one = _marks(path), known.get(name, {})
    if marks.items() <= one.items() and isinstance(one.get("blake3"), str):
        return str(one["blake3"])
    return _hash(path, **marks)


def _marks(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"size_bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


@lru_cache(maxsize=4096)
def _hash(path: Path, size_bytes: int, mtime_ns: int) -> str:
    return hash_file(path)
