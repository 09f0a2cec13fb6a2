"""Tensors of a distributed checkpoint in safetensors files: no pickle is written, and none is ever read.

DCP plans what is written and read, so that a checkpoint can be loaded on another number of processes. Its own
metadata file is a pickle; here each file's header says instead where its parts lie in the whole tensors, in the form
that `torch.distributed.checkpoint.HuggingFaceStorageReader` reads too. Format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from blake3 import blake3
from torch import Tensor
from torch.distributed.checkpoint import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from steep.artifacts.files import full_disk_stops
from steep.spec.errors import DamagedArtifact

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_SHARDING = "DCP_SHARDING_INFO"
_MAX_HEADER_BYTES = 100 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of a named tensor: where it begins in the whole, and its values."""

    name: str
    offsets: tuple[int, ...]
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A rectangle of a named tensor in a file."""

    file: Path
    offsets: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    start: int

    def read(self) -> Tensor:
        """Its values, memory-mapped; changes stay private."""
        num_bytes = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        if num_bytes == 0:
            return torch.empty(self.shape, dtype=self.dtype)
        mapped = np.memmap(self.file, dtype=np.uint8, mode="c", offset=self.start, shape=(num_bytes,))
        return torch.from_numpy(mapped).view(self.dtype).reshape(self.shape)


def plan_parts(tensors: Mapping[str, Tensor]) -> list[Part]:
    """What this process writes of some tensors, sharded or not, by DCP's plan."""
    planner = DefaultSavePlanner(flatten_state_dict=False)
    planner.set_up_planner(dict(tensors), is_coordinator=True)
    plans, _ = planner.create_global_plan([planner.create_local_plan()])
    parts = []
    for item in planner.finish_plan(plans[0]).items:
        value = planner.resolve_data(item)
        assert isinstance(value, Tensor), f"{item.index.fqn} is not a tensor"
        assert item.tensor_data is not None
        parts.append(Part(item.index.fqn, tuple(item.tensor_data.chunk.offsets), value))
    return parts


def write_parts(
    path: Path,
    parts: Sequence[Part],
    feed: Callable[[Part, Callable[[memoryview], None]], None],
    notes: Mapping[str, str] | None = None,
) -> str:
    """Write one file, synced to the disk. Returns its blake3, computed from the bytes as they were handed over.

    Args:
        feed: gives the bytes of a part to a callback, piece by piece.
        notes: strings for the file's metadata.

    Raises:
        OutOfSpace: the disk is full.
    """
    # wide types first: every tensor then begins at a multiple of its own width, as memory maps need
    ordered = sorted(parts, key=lambda part: (-part.tensor.dtype.itemsize, part.name, part.offsets))
    hasher = blake3()
    with full_disk_stops(path), open(path, "wb", buffering=0) as stream:

        def consume(piece: memoryview) -> None:
            hasher.update(piece)
            written = 0
            while written < len(piece):
                written += stream.write(piece[written:])

        consume(memoryview(_header(ordered, notes or {})))
        for part in ordered:
            feed(part, consume)
        os.fsync(stream.fileno())
    return hasher.hexdigest()


def _header(parts: Sequence[Part], notes: Mapping[str, str]) -> bytes:
    sharding = {part.name: {"saved_offsets": list(part.offsets)} for part in parts}
    header: dict[str, Any] = {"__metadata__": {"format": "pt", _SHARDING: json.dumps(sharding), **notes}}
    end = 0
    for part in parts:
        start, end = end, end + part.tensor.numel() * part.tensor.dtype.itemsize
        header[part.name] = {
            "dtype": _CODES[part.tensor.dtype],
            "shape": list(part.tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_header(path: Path) -> tuple[dict[str, StoredPart], dict[str, str]]:
    """The parts a file holds, by tensor name, and its notes.

    Raises:
        DamagedArtifact: it is not a safetensors file.
    """
    try:
        with open(path, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > _MAX_HEADER_BYTES:
                raise ValueError(f"its header claims {length:,} bytes")
            header = json.loads(stream.read(length))
        notes = header.pop("__metadata__", {})
        sharding = json.loads(notes.pop(_SHARDING, "{}"))
        parts = {}
        for name, entry in header.items():
            shape = tuple(entry["shape"])
            offsets = tuple(sharding[name]["saved_offsets"]) if name in sharding else (0,) * len(shape)
            start = 8 + length + entry["data_offsets"][0]
            parts[name] = StoredPart(path, offsets, shape, DTYPES[entry["dtype"]], start)
        return parts, notes
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedArtifact(
            f"is not a tensor file of a checkpoint: {error}", where=str(path), cure="Use another checkpoint."
        ) from error


class TensorFiles:
    """Some tensor files read as one: whole tensors by name, whatever number of processes wrote them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.notes: dict[str, str] = {}
        self.parts: dict[str, list[StoredPart]] = {}
        for path in paths:
            parts, notes = read_header(path)
            self.notes |= notes
            for name, part in parts.items():
                self.parts.setdefault(name, []).append(part)

    def shape(self, name: str) -> torch.Size:
        """The shape of a whole tensor."""
        ends = [[o + s for o, s in zip(part.offsets, part.shape, strict=True)] for part in self.parts[name]]
        return torch.Size([max(sizes) for sizes in zip(*ends, strict=True)])

    def dtype(self, name: str) -> torch.dtype:
        """The type of a tensor."""
        return self.parts[name][0].dtype

    def read(self, name: str) -> Tensor:
        """A whole tensor; memory-mapped when it lies in one part."""
        parts = self.parts[name]
        if len(parts) == 1:
            return parts[0].read()
        whole = torch.empty(self.shape(name), dtype=self.dtype(name))
        for part in parts:
            box = tuple(slice(o, o + s) for o, s in zip(part.offsets, part.shape, strict=True))
            whole[box] = part.read()
        return whole

    def load_into(self, targets: Mapping[str, Tensor]) -> None:
        """Copy values into tensors, sharded in any way, in place; by DCP's plan. Names and shapes must agree."""
        planner = DefaultLoadPlanner(flatten_state_dict=False)
        planner.set_up_planner(dict(targets), self._metadata(), is_coordinator=True)
        plan = planner.finish_plan(planner.create_global_plan([planner.create_local_plan()])[0])
        for item in plan.items:
            stored = self._find(item.storage_index)
            box = tuple(slice(o, o + n) for o, n in zip(item.storage_offsets, item.lengths, strict=True))
            target = planner.resolve_tensor(item).detach()
            target.copy_(stored.read()[box])
            planner.commit_tensor(item, target)

    def _find(self, index: MetadataIndex) -> StoredPart:
        offsets = tuple(index.offset or ())
        return next(part for part in self.parts[index.fqn] if part.offsets == offsets)

    def _metadata(self) -> Metadata:
        return Metadata(
            {
                name: TensorStorageMetadata(
                    properties=TensorProperties(dtype=self.dtype(name)),
                    size=self.shape(name),
                    chunks=[ChunkStorageMetadata(torch.Size(p.offsets), torch.Size(p.shape)) for p in parts],
                )
                for name, parts in self.parts.items()
            }
        )
