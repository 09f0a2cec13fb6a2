"""Copies of documents: exact ones by a hash, near ones by MinHash signatures in bands, confirmed by their likeness.

A signature keeps, for each of 128 bins, the smallest hash of the 5-word runs that fall into it: one permutation hashing (Li,
Owen and Zhang 2012), so a text is hashed once, not 128 times. Two documents that share a whole band of bins are compared
(Indyk and Motwani 1998), with empty bins filled from their neighbours (Shrivastava and Li 2014) for that search alone; the
likeness itself is counted over bins that are not empty in both, which is exact for short texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from steep.corpus.words import Hashes, Positions, Rows, mixed, ngram_hashes

NUM_BINS = 128
SHINGLE_WORDS = 5
EMPTY_BIN = np.uint32(2**32 - 1)
_BIN_BITS = 7
_RECALL = 0.98  # of pairs exactly as alike as the threshold
_MAX_COMPARED = 64  # kept documents of one cluster that another one is compared with
_SPACES = b" \t\n\r\x0b\x0c"
_LOWER = bytes(range(256)).lower()

Signatures = npt.NDArray[np.uint32]  # [num_docs, NUM_BINS]


def content_hashes(texts: Sequence[str]) -> Hashes:
    """`[num_docs, 2]`: 128 bits of BLAKE3 of each text in lower case and without space; copies have the same ones."""
    digests = b"".join(blake3(_without_case_and_space(text)).digest(16) for text in texts)
    return np.frombuffer(digests, dtype="<u8").reshape(-1, 2)


def _without_case_and_space(text: str) -> bytes:
    if text.isascii():  # one pass does both
        return text.encode("ascii").translate(_LOWER, _SPACES)
    return text.lower().encode("utf-8", "surrogatepass").translate(None, _SPACES)


def signatures(words: Rows) -> Signatures:
    """`[num_docs, 128]`: the smallest hash in each bin of each text's 5-word runs; `EMPTY_BIN` where there is none."""
    runs = ngram_hashes(words, SHINGLE_WORDS)
    out = np.full((len(runs.stops), NUM_BINS), EMPTY_BIN, dtype=np.uint32)
    rows = np.repeat(np.arange(len(runs.stops)), runs.stops - runs.starts)
    bins = (runs.values & np.uint64(NUM_BINS - 1)).astype(np.int64)
    values = np.minimum((runs.values >> np.uint64(32)).astype(np.uint32), EMPTY_BIN - np.uint32(1))
    np.minimum.at(out.reshape(-1), (rows << _BIN_BITS) | bins, values)
    return out


def likeness(one: Signatures, other: Signatures) -> npt.NDArray[np.float64]:
    """Estimated Jaccard similarity of pairs of signatures, row by row; 0 where both texts hold no words."""
    filled = (one != EMPTY_BIN) | (other != EMPTY_BIN)
    same = (one == other) & filled
    return np.asarray(same.sum(axis=1) / np.maximum(filled.sum(axis=1), 1))


def band_width(threshold: float) -> int:
    """Bins in a band: the most with which pairs as alike as the threshold still share a band with 98 % probability."""
    for width in range(NUM_BINS, 1, -1):
        if 1 - (1 - threshold**width) ** (NUM_BINS // width) >= _RECALL:
            return width
    return 1


def band_hashes(signature: Signatures, threshold: float) -> Hashes:
    """`[num_docs, num_bands]`: a hash of each band of bins, 0 for texts without words."""
    width = band_width(threshold)
    filled = _fill(signature)
    num_bands = NUM_BINS // width
    out = np.zeros((len(signature), num_bands), dtype=np.uint64)
    for at in range(width):
        out = mixed(out ^ filled[:, at : at + num_bands * width : width])
    out[(signature == EMPTY_BIN).all(axis=1)] = 0
    return out


def first_copies(hashes: Hashes) -> Positions:
    """For each document the number of the first with the same `[num_docs, 2]` content hash: its own when it is the first."""
    if not len(hashes):
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: the first of equal ones stays in front
    ordered = hashes[order]
    new = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    out = np.empty(len(hashes), dtype=np.int64)
    out[order] = order[np.flatnonzero(new)[np.cumsum(new) - 1]]
    return out


class Clusters:
    """Which documents belong together: a union-find over their numbers, whose roots are the smallest of each cluster."""

    def __init__(self, count: int) -> None:
        self._parents = np.arange(count, dtype=np.int64)

    def join(self, one: int, other: int) -> None:
        """Put two documents, and all that belongs to them, together."""
        one, other = self._root(one), self._root(other)
        self._parents[max(one, other)] = min(one, other)

    def roots(self) -> Positions:
        """The smallest number in each document's cluster."""
        parents = self._parents
        while (parents[parents] != parents).any():
            parents = parents[parents]
        self._parents = parents
        return parents.copy()

    def _root(self, number: int) -> int:
        parents = self._parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = int(parents[number])
        return number


def join_alike(clusters: Clusters, band: Hashes, documents: Positions, signature: Signatures, threshold: float) -> None:
    """Join documents that share a band's hash and are as alike as the threshold; each is compared with two before it.

    Args:
        clusters: over the numbers in `documents`.
        band: `[num_docs]` hash of one band; 0 takes no part.
        documents: `[num_docs]` their numbers, ascending.
        signature: signatures of all documents, by number; may be memory-mapped.
        threshold: Jaccard similarity.
    """
    order = np.argsort(band, kind="stable")
    order = order[band[order] != 0]
    if len(order) < 2:
        return
    ordered = band[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    heads = np.flatnonzero(new)[np.cumsum(new) - 1]
    later = np.flatnonzero(~new)
    for before in (heads[later], later - 1):  # with the first of those that share it, and with the one before
        one, other = documents[order[later]], documents[order[before]]
        for start in range(0, len(one), 4096):
            part = slice(start, start + 4096)
            alike = likeness(signature[one[part]], signature[other[part]]) >= threshold
            for a, b in zip(one[part][alike].tolist(), other[part][alike].tolist(), strict=True):
                clusters.join(a, b)


def near_copies(members: Positions, sizes: Positions, signature: Signatures, threshold: float) -> Positions:
    """Which members of a cluster to drop: those that are alike one that is kept. The longest is kept first.

    A cluster may be a chain whose ends have little in common; then more than one of it is kept.

    Args:
        members: numbers of the cluster's documents, ascending.
        sizes: their bytes.
        signature: signatures of all documents, by number.
        threshold: Jaccard similarity.
    """
    order = members[np.argsort(-sizes, kind="stable")]
    kept: list[npt.NDArray[np.uint32]] = []
    dropped = []
    for number in order.tolist():
        own = signature[number]
        if kept and (likeness(np.stack(kept), own[None]) >= threshold).any():
            dropped.append(number)
        elif len(kept) < _MAX_COMPARED:
            kept.append(own)
    return np.array(sorted(dropped), dtype=np.int64)


def _fill(signature: Signatures) -> Hashes:
    """Signatures with each empty bin filled from the next one that is not, marked by the distance."""
    empty = signature == EMPTY_BIN
    positions = np.where(empty, 3 * NUM_BINS, np.arange(NUM_BINS))
    twice = np.concatenate([positions, np.minimum(positions + NUM_BINS, 3 * NUM_BINS)], axis=1)
    following = np.minimum.accumulate(twice[:, ::-1], axis=1)[:, ::-1][:, :NUM_BINS]
    source = following % NUM_BINS
    distance = (following - np.arange(NUM_BINS)).astype(np.uint64)
    return np.take_along_axis(signature, source, axis=1).astype(np.uint64) | (distance << np.uint64(32))
