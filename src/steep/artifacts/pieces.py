"""Cutting text into pieces to score: small enough that each is read from a fresh context, the same for every model."""

from __future__ import annotations

MAX_PIECE_BYTES = 8000
_ENDS = (b"\n\n", b"\n", b" ")  # best first: paragraph, line, word


def cut_pieces(text: str, max_bytes: int = MAX_PIECE_BYTES) -> list[str]:
    """Cut `text` at paragraph ends, else line ends, else between words, into pieces whose concatenation is `text`.

    Args:
        text: any string.
        max_bytes: UTF-8 bytes of a piece at most; at least 8.

    Returns:
        Pieces of more than half of `max_bytes` where an end allows it, except the last; none for an empty text.
    """
    encoded = text.encode("utf-8", errors="surrogatepass")
    pieces, start = [], 0
    while start < len(encoded):
        stop = _stop(encoded, start, max_bytes)
        pieces.append(encoded[start:stop].decode("utf-8", errors="surrogatepass"))
        start = stop
    return pieces


def _stop(encoded: bytes, start: int, max_bytes: int) -> int:
    """Where the piece from `start` ends."""
    limit = start + max_bytes
    if limit >= len(encoded):
        return len(encoded)
    for end in _ENDS:
        if (found := encoded.rfind(end, start + max_bytes // 2, limit)) >= 0:
            return found + len(end)
    while encoded[limit] & 0xC0 == 0x80:  # never inside a character
        limit -= 1
    return limit
