"""Second pass over a corpus: which documents are copies, from their marks alone; no text is read.

Memory is some tens of bytes a document. Signatures, which take more, lie in a file that is mapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from steep.artifacts.files import allocate
from steep.corpus.dedup import (
    NUM_BINS,
    Clusters,
    Signatures,
    band_hashes,
    band_width,
    first_copies,
    join_alike,
    near_copies,
)
from steep.corpus.parts import Part
from steep.corpus.words import Hashes, Positions, mixed
from steep.spec.job import Dedup

Progress = Callable[[str, float, float | None], None]
STEP = "dedup"


class Fate(IntEnum):
    """What becomes of a document that cleaning kept."""

    TRAIN = 0
    HOLDOUT = 1
    EXACT_COPY = 2
    NEAR_COPY = 3
    EVALUATION_TEXT = 4


Fates = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Decisions:
    """The documents of some parts, in order, and what is decided of them.

    Attributes:
        parts: where they lie.
        stops: where each part's documents end among all.
        text_bytes: their sizes.
        keys: a stable hash of each document's cluster of near-copies, by which it is held out or not.
        fates: what becomes of each.
    """

    parts: list[Part]
    stops: list[int]
    text_bytes: Positions
    keys: Hashes
    fates: Fates

    def of_part(self, index: int) -> slice:
        """Where a part's documents lie among all."""
        return slice(self.stops[index - 1] if index else 0, self.stops[index])

    def of_parts(self, first: int, count: int) -> Decisions:
        """A view on the documents of some parts: what is decided there is decided here."""
        start = self.stops[first - 1] if first else 0
        stops = self.stops[first : first + count]
        place = slice(start, stops[-1] if stops else start)
        return Decisions(
            self.parts[first : first + count],
            [stop - start for stop in stops],
            self.text_bytes[place],
            self.keys[place],
            self.fates[place],
        )

    def texts(self, fate: Fate) -> Iterator[str]:
        """Texts of the documents that have a fate, read part by part."""
        for index, part in enumerate(self.parts):
            wanted = self.fates[self.of_part(index)] == fate
            if wanted.any():
                yield from (text for _, text in part.texts(wanted))

    def bytes_of(self, fate: Fate) -> int:
        """Size of the documents that have a fate."""
        return int(self.text_bytes[self.fates == fate].sum())


def find_copies(parts: Sequence[Part], dedup: Dedup, work: Path, progress: Progress) -> Decisions:
    """Decide which documents are copies. The first of exact copies stays, and the longest of near ones.

    Args:
        parts: in the order of the corpus.
        dedup: which copies to look for.
        work: directory for files that are too large for memory.
        progress: told of bands compared.
    """
    marks = [part.marks("text_bytes", "content") for part in parts]
    sizes = np.concatenate([np.zeros(0, np.int64), *(mark["text_bytes"] for mark in marks)])
    content = np.concatenate([np.zeros((0, 2), np.uint64), *(mark["content"] for mark in marks)])
    stops = np.cumsum([len(mark["text_bytes"]) for mark in marks], dtype=np.int64).tolist()
    fates = np.full(len(sizes), Fate.TRAIN, dtype=np.uint8)
    clusters = Clusters(len(sizes))
    if dedup.exact:
        fates[first_copies(content) != np.arange(len(sizes))] = Fate.EXACT_COPY
    if dedup.near is not None:
        found = _near(parts, np.flatnonzero(fates == Fate.TRAIN), clusters, dedup.near, sizes, work, progress)
        fates[found] = Fate.NEAR_COPY
    roots = clusters.roots()
    keys = content[:, 0].copy()
    np.minimum.at(keys, roots, content[:, 0])
    spread = mixed(keys[roots])  # the smallest of many is small; a large cluster must not be held out for that
    return Decisions(list(parts), stops, sizes, spread, fates)


def _near(
    parts: Sequence[Part],
    documents: Positions,
    clusters: Clusters,
    threshold: float,
    sizes: Positions,
    work: Path,
    progress: Progress,
) -> Positions:
    """Join near-copies into clusters; returns the numbers of those to drop."""
    work.mkdir(parents=True, exist_ok=True)
    num_bands = NUM_BINS // band_width(threshold)
    files = [work / "signatures.bin", work / "bands.bin"]
    if not len(documents):
        return documents
    signature: Any = _mapped(files[0], np.uint32, (len(sizes), NUM_BINS))
    bands: Any = _mapped(files[1], np.uint64, (num_bands, len(sizes)))
    start = 0
    for part in parts:
        found = part.marks("signature")["signature"]
        signature[start : start + len(found)] = found
        bands[:, start : start + len(found)] = band_hashes(found, threshold).T
        start += len(found)
    for number in range(num_bands):
        progress("bands of documents compared", number, num_bands)
        join_alike(clusters, bands[number, documents], documents, signature, threshold)
    progress("bands of documents compared", num_bands, num_bands)
    dropped = _all_near_copies(clusters.roots(), documents, sizes, signature, threshold)
    del signature, bands
    for file in files:
        file.unlink()
    return dropped


def _mapped(file: Path, dtype: Any, shape: tuple[int, int]) -> Any:
    """An array of zeros in a file that has all of its room."""
    allocate(file, np.dtype(dtype).itemsize * shape[0] * shape[1])
    return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def _all_near_copies(
    roots: Positions, documents: Positions, sizes: Positions, signature: Signatures, threshold: float
) -> Positions:
    """The near-copies of every cluster."""
    own = roots[documents]
    order = np.argsort(own, kind="stable")
    bounds = np.flatnonzero(np.diff(own[order])) + 1
    several = [members for members in np.split(documents[order], bounds) if len(members) > 1] if len(bounds) else []
    if not len(bounds) and len(documents) > 1:
        several = [documents]
    found = [near_copies(members, sizes[members], signature, threshold) for members in several]
    return np.concatenate([np.zeros(0, np.int64), *found])
