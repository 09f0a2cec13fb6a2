"""Words of texts as hashes: what near-duplicates and evaluation text are recognised by.

A word is a run of letters and digits, whatever their case; spaces and punctuation only separate. Where a script has no spaces
each character is a word. Everything is arithmetic on arrays of 64-bit numbers, modulo 2**64, over many texts at once: no word
becomes a Python object.

A span of values v has the hash sum(v[i] * B**(i - start)), which the running sum of v[i] * B**i gives for every span at
once: B is odd and so has an inverse modulo 2**64 (Karp and Rabin 1987, with windows of any length).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]

_BASE = 0x9E3779B97F4A7C15
_LENGTH = 0xD6E8FEB86659FD93
_MASK = 2**64 - 1
_BLOCK = 2**18  # values hashed at a time: tables and arrays of this size stay in the processor's cache
_ASCII_WORD = b"0123456789abcdefghijklmnopqrstuvwxyz_"


@dataclass(frozen=True, slots=True)
class Rows:
    """A row of hashes for each of several texts, one after another: row i is `values[stops[i - 1] : stops[i]]`."""

    values: Hashes
    stops: Positions

    @property
    def starts(self) -> Positions:
        """Where each row begins."""
        return np.concatenate([np.zeros(1, np.int64), self.stops[:-1]]) if len(self.stops) else self.stops

    def row(self, index: int) -> Hashes:
        """The hashes of one text."""
        return self.values[(int(self.stops[index - 1]) if index else 0) : int(self.stops[index])]


def word_hashes(texts: Sequence[str]) -> Rows:
    """A hash for each word of each text, in order; equal words have equal hashes in every text and on every machine."""
    parts: list[Hashes] = []
    counts = np.zeros(len(texts), dtype=np.int64)
    batch: list[bytes] = []
    first = size = 0
    for index, text in enumerate(texts):
        batch.append(text.lower().encode("utf-8", "replace"))
        size += len(batch[-1])
        if size >= _BLOCK or index == len(texts) - 1:
            hashes, counts[first : index + 1] = _hash_batch(batch)
            parts.append(hashes)
            batch, first, size = [], index + 1, 0
    return Rows(np.concatenate(parts) if parts else np.zeros(0, np.uint64), np.cumsum(counts))


def ngram_hashes(words: Rows, length: int) -> Rows:
    """A hash for each run of `length` words of a text; for a text with fewer, one of all its words; none without words."""
    lengths = words.stops - words.starts
    counts = np.where(lengths == 0, 0, np.maximum(lengths - length + 1, 1))
    stops = np.cumsum(counts)
    rows = np.repeat(np.arange(len(counts)), counts)
    begins = np.arange(len(rows)) - np.repeat(stops - counts, counts) + words.starts[rows]
    ends = np.minimum(begins + length, words.stops[rows])
    return Rows(span_hashes(words.values, begins, ends), stops)


def span_hashes(values: Hashes, starts: Positions, stops: Positions) -> Hashes:
    """A hash of each span of `values`; spans lie in ascending order of their starts and each holds less than a block."""
    out = np.empty(len(starts), dtype=np.uint64)
    done = 0
    while done < len(starts):
        begin = int(starts[done])
        # the spans that end within this block, at least one
        upto = max(done + 1, int(np.searchsorted(starts, begin + _BLOCK // 2)))
        inside = slice(done, upto)
        end = int(stops[inside].max())
        powers, inverse = _powers(max(_BLOCK, 1 << (end - begin).bit_length()))
        sums = np.zeros(end - begin + 1, dtype=np.uint64)
        np.cumsum(values[begin:end] * powers[: end - begin], out=sums[1:])
        local = starts[inside] - begin
        out[inside] = (sums[stops[inside] - begin] - sums[local]) * inverse[local]
        out[inside] += (stops[inside] - starts[inside]).astype(np.uint64) * np.uint64(_LENGTH)
        done = upto
    return mixed(out)


def mixed(values: Hashes) -> Hashes:
    """Spread the bits of 64-bit numbers (the finaliser of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _hash_batch(texts: list[bytes]) -> tuple[Hashes, Positions]:
    """Word hashes of some texts, one after another, and how many words each has."""
    content = np.frombuffer(b"\n".join(texts), dtype=np.uint8)
    ends_of_texts = np.cumsum([len(text) + 1 for text in texts]) - 1
    if not len(content):
        return np.zeros(0, np.uint64), np.zeros(len(texts), np.int64)
    starts, stops = _words(content)
    stops = np.minimum(stops, starts + _BLOCK // 2)  # a run without any space, such as base64, counts by its beginning
    hashes = span_hashes(_byte_values()[content], starts, stops)
    return hashes, np.diff(np.searchsorted(starts, ends_of_texts), prepend=0).astype(np.int64)


def _words(content: npt.NDArray[np.uint8]) -> tuple[Positions, Positions]:
    """Where the words of UTF-8 bytes start and stop."""
    inside = _word_bytes()[content]
    if content.max() < 0x80:
        begins = inside.copy()
        begins[1:] &= ~inside[:-1]
    else:
        continues = (content & 0xC0) == 0x80
        leader = content[np.maximum.accumulate(np.where(continues, 0, np.arange(len(content))))]
        inside = _word_bytes()[leader]
        alone = leader >= 0xE3  # three and four bytes: mostly scripts without spaces
        begins = inside & ~continues
        begins[1:] &= ~inside[:-1] | alone[1:] | alone[:-1]
    ends = inside.copy()
    ends[:-1] &= ~inside[1:] | begins[1:]
    return np.flatnonzero(begins), np.flatnonzero(ends) + 1


@lru_cache(maxsize=1)
def _word_bytes() -> npt.NDArray[np.bool_]:
    """Which first bytes of UTF-8 characters belong to words: not the rest of ASCII, nor general punctuation."""
    table = np.zeros(256, dtype=np.bool_)
    table[np.frombuffer(_ASCII_WORD, dtype=np.uint8)] = True
    table[0x80:] = True
    table[0xE2] = False  # U+2000 to U+2FFF: dashes, quotation marks, arrows, box drawing
    return table


@lru_cache(maxsize=1)
def _byte_values() -> Hashes:
    """A number with well-mixed bits for each byte."""
    return mixed(np.arange(1, 257, dtype=np.uint64) * np.uint64(_BASE))


@lru_cache(maxsize=4)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """The first powers of the base and of its inverse modulo 2**64."""
    tables = []
    for base in (_BASE, pow(_BASE, -1, 2**64)):
        table = np.ones(1, dtype=np.uint64)
        while len(table) < count:
            table = np.concatenate([table, table * np.uint64(pow(base, len(table), 2**64) & _MASK)])
        tables.append(table)
    return tables[0], tables[1]
