"""What a format's reader is given, and what it gives back.

Formats are of three kinds. A *stream* one gives the text of a file block by block: `(Content, encoding) -> Iterator[str]`.
A *whole* one needs all of it at once: `(bytes, encoding) -> str`. A *records* one reads a stream of many texts:
`(Content, Fields) -> Iterator[Text | Lost]`, and never holds more than a batch.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from steep.artifacts.files import full_disk_stops

WHOLE_FILE_BYTES = 256 << 20  # a file that must be held in memory at once may be this big
_MEMORY_BYTES = 32 << 20
_BUFFER_BYTES = 1 << 20


class Unreadable(Exception):
    """A file, or a part of one, that holds no text we can read. It becomes a `Drop`.

    Args:
        reason: a code of `extract.REASONS`.
        detail: a sentence for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


@dataclass(frozen=True, slots=True)
class Fields:
    """How records are read.

    Attributes:
        text_field: field that holds the text; None when it is to be found.
        encoding: as the spec gives it; None when it is to be detected.
        strict: whether records without a clear text field are the user's error (InvalidCorpus) rather than a file to skip.
    """

    text_field: str | None = None
    encoding: str | None = None
    strict: bool = True


@dataclass(slots=True)
class Content:
    """The bytes of one file, member or decompressed stream.

    Attributes:
        name: its name, whose end says the format.
        stream: from the beginning; a buffered reader.
        size_bytes: how much it takes where it lies; what is lost when it cannot be read.
        origin: where it stands in its source; the name by default.
    """

    name: str
    stream: IO[bytes]
    size_bytes: int
    origin: str = ""

    def __post_init__(self) -> None:
        self.origin = self.origin or self.name

    def head(self, num_bytes: int) -> bytes:
        """The first bytes of what is still to be read, which stay to be read."""
        stream = self.stream
        if stream.seekable():
            start = stream.tell()
            head = stream.read(num_bytes)
            stream.seek(start)
            return head
        head = stream.read(num_bytes)
        self.stream = io.BufferedReader(_Rejoined(head, stream), _BUFFER_BYTES)
        return head

    def whole(self) -> bytes:
        """All of it. Raises Unreadable when that is too much to hold."""
        data = self.stream.read(WHOLE_FILE_BYTES + 1)
        if len(data) > WHOLE_FILE_BYTES:
            raise Unreadable("too_large", f"is over {WHOLE_FILE_BYTES >> 20} MiB, which this format cannot be read in")
        return data


class _Rejoined(io.RawIOBase):
    """A stream that cannot seek, with the beginning that was read from it put back."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, from the head as long as there is some."""
        data: bytes | memoryview = self._head[: len(buffer)] if self._head else self._rest.read1(len(buffer))
        self._head = self._head[len(data) :]
        buffer[: len(data)] = data
        return len(data)


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a stream of records; `mark` says which (a line number)."""

    text: str
    mark: int


@dataclass(frozen=True, slots=True)
class Lost:
    """One record that could not be read."""

    reason: str
    detail: str
    text_bytes: int
    mark: int


@contextmanager
def seekable(stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """The stream itself where it can seek, else a copy of it: in memory when small, else in a temporary file."""
    if stream.seekable():
        yield stream
        return
    with tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as copy:
        with full_disk_stops(Path(tempfile.gettempdir())):
            shutil.copyfileobj(stream, copy, 1 << 20)
        copy.seek(0)
        yield copy
