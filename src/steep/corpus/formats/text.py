"""Plain text, markup that reads well as it is, and source code: the file's own words, block by block."""

from __future__ import annotations

from collections.abc import Iterator

from steep.corpus.formats.content import Content, Unreadable
from steep.corpus.formats.encoding import decode, mend_surrogates, open_text

BLOCK_BYTES = 1 << 20
_WHOLE_BYTES = 4 << 20  # up to here the encoding is detected on all of the file
_MAX_NULS = 0.01  # of characters: a stray one is mended by cleaning, more are no text


def read_text(content: Content, encoding: str | None) -> Iterator[str]:
    """The text in blocks of about a megabyte, whose concatenation it is.

    Raises:
        Unreadable: it is binary, or not in the encoding that was given.
    """
    head = content.head(_WHOLE_BYTES)
    if len(head) < _WHOLE_BYTES:
        yield _checked(decode(head, encoding))
        return
    with_line_ends = open_text(content.stream, encoding, head)
    try:
        while block := with_line_ends.read(BLOCK_BYTES):
            yield _checked(mend_surrogates(block))
    finally:
        with_line_ends.detach()  # the stream is its opener's to close


def _checked(text: str) -> str:
    if text.count("\0") > _MAX_NULS * len(text):
        raise Unreadable("encoding", "is binary, not text")
    return text
