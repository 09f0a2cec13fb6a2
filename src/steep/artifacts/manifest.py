"""The manifest of a checkpoint: what it is, what it may be resumed with, and what each of its files must be.

It carries a hash of itself, so that a damaged number in it is noticed like a damaged weight.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from steep.artifacts.files import hash_file, hash_text
from steep.spec.errors import DamagedArtifact

MANIFEST = "manifest.json"
_DIGEST = "manifest_blake3"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Frozen):
    """What a file must be."""

    size_bytes: int
    blake3: str


class Parent(_Frozen):
    """The checkpoint that training went on from."""

    step: int
    identity: str
    run: str | None = Field(None, description="The run it belongs to, when another; a path.")


class CheckpointManifest(_Frozen):
    """The record of one checkpoint; committed last.

    `cursor` is the global index of the next sequence. The fingerprints say what it may be resumed with: the part of
    the spec that training depends on, the data order, and the names and shapes of the weights.
    """

    format: Literal[1] = 1
    step: int
    tokens_seen: int
    cursor: int
    created_at: float
    spec_fingerprint: str
    order_fingerprint: str
    model_fingerprint: str
    parent: Parent | None = None
    files: dict[str, FileRecord]
    metrics: dict[str, float] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)

    @field_validator("files")
    @classmethod
    def _plain_names(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        if climbing := [name for name in files if name in ("", ".", "..") or Path(name).name != name]:
            raise ValueError(f"{climbing[0]!r} is not the name of a file in the checkpoint")
        return files

    @property
    def identity(self) -> str:
        """Hash of its bytes and of what they belong to; the same state has the same identity, wherever it lies."""
        files = [f"{name}={record.blake3}" for name, record in sorted(self.files.items())]
        fingerprints = (self.spec_fingerprint, self.order_fingerprint, self.model_fingerprint)
        return hash_text(str(self.step), *fingerprints, *files)

    @property
    def size_bytes(self) -> int:
        """Bytes of all its data files."""
        return sum(record.size_bytes for record in self.files.values())


def step_name(step: int) -> str:
    """The name of a step's checkpoint directory."""
    return f"step-{step:08d}"


def parse_step(name: str) -> int | None:
    """The step whose checkpoint directory has this name, or nothing."""
    digits = name.removeprefix("step-")
    return int(digits) if digits.isdecimal() and step_name(int(digits)) == name else None


def dump_manifest(manifest: CheckpointManifest) -> str:
    """The manifest as JSON text that carries its own hash."""
    body = manifest.model_dump(mode="json")
    return json.dumps(body | {_DIGEST: _digest(body)}, indent=1)


def parse_manifest(text: bytes | str, where: str) -> CheckpointManifest:
    """Read a manifest.

    Raises:
        DamagedArtifact: it is not one, or its content does not match its own hash.
    """
    try:
        body = json.loads(text)
        if body.pop(_DIGEST) != _digest(body):
            raise ValueError("its content does not match its own hash")
        return CheckpointManifest.model_validate(body)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error).splitlines()[0]
        raise DamagedArtifact(
            f"the manifest is damaged: {why}",
            where=where,
            cure="Use another checkpoint; `steep checkpoints verify` names the good ones.",
        ) from error


def _digest(body: Mapping[str, Any]) -> str:
    return hash_text(json.dumps(body, sort_keys=True))


def verify_file(path: Path, record: FileRecord) -> None:
    """Compare a file with its record.

    Raises:
        DamagedArtifact: it is missing or cannot be read, or its size or hash differs.
    """
    try:
        what = _what_is_wrong(path, record)
    except OSError as error:
        what = f"the file cannot be read: {error.strerror}"
    if what is not None:
        cure = "Use another checkpoint, or fetch this one from the store again."
        raise DamagedArtifact(what, where=str(path), cure=cure)


def _what_is_wrong(path: Path, record: FileRecord) -> str | None:
    if not path.is_file():
        return "the file is missing"
    if (size := path.stat().st_size) != record.size_bytes:
        return f"the file has {size:,} bytes; its manifest says {record.size_bytes:,}"
    return None if hash_file(path) == record.blake3 else "the file's content does not match its hash"
