"""Server-sent events come out the same wherever the stream is cut."""

from __future__ import annotations

import pytest

from steep.client.sse import Message, MessageReader

STREAM = (
    "\ufeff: welcome\n\nid: 1\nevent: progress\ndata: {\"message\": \"a\u2028b\x0b\x85c € \U0001f600\"}\n\n"
    ": keep-alive\r\n\r\nid:2\r\nevent:notice\r\ndata: one\r\ndata:\r\ndata:  two\r\n\r\n"
    "retry: 10\rdata\rid\rdata: last\r\rdata: cut off"
).encode()  # fmt: skip
MESSAGES = [
    Message("progress", '{"message": "a\u2028b\x0b\x85c € \U0001f600"}', "1"),
    Message("notice", "one\n\n two", "2"),
    Message("message", "\nlast", ""),
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 10_000])
def test_messages_are_whole_whatever_the_pieces(size: int) -> None:
    reader = MessageReader()
    pieces = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert [message for piece in pieces for message in reader.feed(piece)] == MESSAGES


def test_every_cut_in_two() -> None:
    for cut in range(len(STREAM) + 1):
        reader = MessageReader()
        assert [*reader.feed(STREAM[:cut]), *reader.feed(STREAM[cut:])] == MESSAGES, cut


def test_a_message_comes_as_soon_as_it_is_whole() -> None:
    reader = MessageReader()
    assert list(reader.feed(b"data: a\n")) == []
    assert [one.data for one in reader.feed(b"\n")] == ["a"]
    assert list(reader.feed(b"id: 7\n\n")) == []
    assert reader.last_id == "7"
    assert list(reader.feed(b"id: bad\0\ndata: b\n\n")) == [Message("message", "b", "7")]
