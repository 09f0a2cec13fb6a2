"""Uploaded files, and the files that jobs leave, over the wire."""

from __future__ import annotations

from pydantic import Field

from steep.spec.api.common import View

NEXT_OFFSET_HEADER = "X-Next-Offset"
"""Of an answer with a part of a log: the offset to ask for next. It is not the number of bytes in the answer: secrets are
taken out of lines, and lines that are too long are cut."""


class FileView(View):
    """An uploaded file."""

    id: str
    name: str
    project: str
    size_bytes: int
    blake3: str
    created_at: float


class StoredFile(View):
    """A file of a checkpoint or of an export, that can be downloaded by its path."""

    path: str = Field(description="Relative, with `/` between its parts.")
    size_bytes: int
    blake3: str | None = Field(None, description="Hash of its bytes, in hex.")
