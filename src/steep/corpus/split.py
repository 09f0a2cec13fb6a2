"""The split: which text is held out, decided by stable hashes, so that it stays held out when the corpus grows.

Whole documents are held out where there are many; of a few large ones, such as books, pieces are. Pure functions.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from steep.artifacts.pieces import MAX_PIECE_BYTES, cut_pieces
from steep.corpus.words import Hashes

LARGE_BYTES = 8 * MAX_PIECE_BYTES  # documents of this mean size are cut when they are few
FEW = 3  # whole documents to hold out, at least; with fewer, large documents are cut
MAX_HOLDOUT_BYTES = 64_000_000  # of one source: more is never scored

REPLAY_SHARE = 0.02  # of replay text that is held out
REPLAY_BYTES = 200_000  # or so much, where that is more
MAX_REPLAY_SHARE = 0.2


def holdout_share(share: float, text_bytes: int) -> float:
    """The share of a corpus source that is held out: as wanted, but no more text than can ever be scored."""
    return min(share, MAX_HOLDOUT_BYTES / text_bytes) if text_bytes else share


def replay_holdout_share(text_bytes: int, max_bytes: int) -> float:
    """The share of replay text that is held out to measure forgetting on: a little, but enough to measure.

    Args:
        text_bytes: size of the replay text.
        max_bytes: more than this is not scored.
    """
    wanted = min(max(REPLAY_SHARE * text_bytes, REPLAY_BYTES), max_bytes)
    return min(MAX_REPLAY_SHARE, wanted / text_bytes) if text_bytes else 0.0


def cuts_documents(num_documents: int, text_bytes: int, share: float) -> bool:
    """Whether pieces of documents are held out rather than whole ones: these are few and large, or there is only one."""
    if share <= 0 or not num_documents:
        return False
    large = text_bytes / num_documents >= LARGE_BYTES or num_documents == 1
    return large and num_documents * share < FEW


def choose(keys: Hashes, share: float) -> npt.NDArray[np.bool_]:
    """Which documents (or pieces) are held out: those whose key lies in the first `share` of all numbers.

    Where there are two different keys or more, at least one is held out and at least one is not.
    """
    if share <= 0 or not len(keys):
        return np.zeros(len(keys), dtype=np.bool_)
    lowest, highest = keys.min(), keys.max()
    if lowest == highest:
        return np.zeros(len(keys), dtype=np.bool_)
    limit = min(int(share * 2.0**64), 2**64 - 1)
    chosen = np.asarray(keys < np.uint64(limit))
    return np.asarray((chosen | (keys == lowest)) & (keys != highest))


def piece_keys(pieces: list[str]) -> Hashes:
    """A stable hash of each piece of text."""
    digests = b"".join(blake3(piece.encode("utf-8", "surrogatepass")).digest(8) for piece in pieces)
    return np.frombuffer(digests, dtype="<u8")


def cut_out(text: str, held: npt.NDArray[np.bool_]) -> tuple[list[str], list[str]]:
    """A document without the pieces that are held out, as the stretches between them, and those pieces."""
    pieces = cut_pieces(text)
    stretches = groupby(zip(pieces, held.tolist(), strict=True), key=lambda pair: pair[1])
    kept = ["".join(piece for piece, _ in stretch) for out, stretch in stretches if not out]
    return kept, [piece for piece, out in zip(pieces, held.tolist(), strict=True) if out]
