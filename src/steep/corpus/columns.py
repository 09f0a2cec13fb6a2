"""Columns of numbers and of text on disk, without a detour over Python's lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from steep.artifacts.files import atomic_writer


def strings(texts: Sequence[str]) -> Any:
    """Texts as an Arrow array. (From a list, Arrow would first load pandas to see whether it is one of its kind.)"""
    import pyarrow as pa

    encoded = [text.encode("utf-8", "replace") for text in texts]
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(each) for each in encoded], out=offsets[1:])
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, str] | None = None) -> None:
    """Write arrays under their names, and beside them some facts."""
    from safetensors.numpy import save

    with atomic_writer(path) as stream:
        stream.write(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, dict(facts or {})))


def read_arrays(path: Path, *names: str) -> dict[str, npt.NDArray[Any]]:
    """Some of the arrays in a file; the others are not read."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as stored:
        return {name: stored.get_tensor(name) for name in names}


def read_facts(path: Path) -> dict[str, str]:
    """The facts that stand beside the arrays in a file."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as stored:
        return dict(stored.metadata() or {})
