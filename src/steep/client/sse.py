"""Server-sent events: messages out of a stream of bytes, wherever it is cut into pieces.

The format is that of the HTML standard, section 9.2. Lines end with CR, LF or both and with nothing else: text may hold
other characters that some programs take for ends of lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its kind, its text, and the id to go on from after it."""

    kind: str
    data: str
    id: str


class MessageReader:
    """Put pieces of the stream in, get whole messages out. Remembers the last id, as the standard wants."""

    def __init__(self) -> None:
        self.last_id = ""
        self._rest = b""
        self._first = True
        self._kind = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[Message]:
        """The messages that this piece completes. A message that the stream's end cuts off is none."""
        for line in self._lines(piece):
            if line:
                self._field(line)
                continue
            kind, data = self._kind, self._data
            self._kind, self._data = "", []
            if data:
                yield Message(kind or "message", "\n".join(data), self.last_id)

    def _lines(self, piece: bytes) -> Iterator[str]:
        content = self._rest + piece
        if self._first and len(content) >= 3:
            self._first, content = False, content.removeprefix(b"\xef\xbb\xbf")
        held = b"\r" if content.endswith(b"\r") else b""  # a LF may follow, in the next piece
        content = content.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *whole, rest = content.split(b"\n")
        self._rest = rest + held
        for line in whole:
            yield line.decode("utf-8", errors="replace")

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self.last_id = value
