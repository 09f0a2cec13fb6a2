"""Data order: which tokens the n-th training sequence holds, as a pure function.

It depends on the streams' fingerprints, their shares, the seed and the sequence's global index, and on nothing else: there
is no shuffling buffer and no state, so the cursor of a run is one integer and any number of workers see the same order.
All arithmetic is on integers; nothing drifts, however far out the index lies.

Two questions, answered one after the other:

1. Which stream, and how many of its sequences came before? A binary tree over the streams; at each node the n-th arrival
   goes left when `round((n + 1) p) - round(n p)` is 1 (a Beatty sequence), where `p` is the left side's exact share.
   The tree is Huffman's, so that a stream's count in any prefix is off its exact share by less than 1 with up to three
   streams and less than 1.7 with any number (half the sum of the reciprocal Fibonacci numbers).
2. Which block of that stream? A stream of T tokens has ceil(T / S) blocks of S in each epoch, the last of which goes round
   to the stream's start. Each epoch shifts the cuts by a seeded offset and permutes the blocks by a Feistel network with
   cycle walking (Black and Rogaway 2002), so an epoch covers every block exactly once.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from blake3 import blake3

from steep.artifacts.files import hash_text
from steep.spec.errors import InvalidCorpus

_SHARE_SCALE = 2**32
_ROUNDS = 4
_MASK64 = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of tokens to draw from.

    Args:
        name: unique among the streams.
        tokens: its length.
        weight: its part of the trained tokens, relative to the other streams' weights; 0 leaves it out.
        fingerprint: changes when its tokens do.
    """

    name: str
    tokens: int
    weight: float
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Location:
    """Where a sequence lies: the stream's number, the epoch of that stream, and the first token's position in it."""

    stream: int
    epoch: int
    start: int


@dataclass(frozen=True, slots=True)
class _Leaf:
    stream: int
    share: int


@dataclass(frozen=True, slots=True)
class _Fork:
    left: _Leaf | _Fork
    right: _Leaf | _Fork
    share: int

    def left_before(self, arrivals: int) -> int:
        """How many of the first `arrivals` went left: `round(arrivals * p)`, halves upwards."""
        return (2 * arrivals * self.left.share + self.share) // (2 * self.share)


def mix(sources: Sequence[Stream], replay: Sequence[Stream], replay_share: float) -> list[Stream]:
    """The streams of a mixture in which replay takes `replay_share` of all tokens.

    A given weight counts how often a stream's tokens are seen compared with those of the other sources (or of the other replay
    streams), so its part of the trained tokens is weight x tokens; the weights of the result are those parts.

    Raises:
        InvalidCorpus: replay takes a share but there is no replay text.
    """
    if replay_share > 0 and not any(stream.tokens * stream.weight > 0 for stream in replay):
        raise InvalidCorpus(
            "replay takes a share of the tokens but holds no text",
            where="replay",
            cure="Give it a source, or write `none`.",
        )
    return [*_scaled(sources, 1 - Fraction(replay_share)), *_scaled(replay, Fraction(replay_share))]


def _scaled(streams: Sequence[Stream], share: Fraction) -> list[Stream]:
    parts = [Fraction(stream.weight) * stream.tokens for stream in streams]
    total = sum(parts, Fraction(0)) or Fraction(1)
    return [replace(stream, weight=float(share * part / total)) for stream, part in zip(streams, parts, strict=True)]


class DataOrder:
    """The order in which sequences of `sequence_tokens` tokens are drawn from `streams`.

    Args:
        streams: what to draw from; their order counts only for the numbers in `Location.stream`.
        sequence_tokens: inputs of one sequence (a row read for it holds one token more, for the last label).
        seed: another seed is another order.

    Raises:
        InvalidCorpus: there is nothing to draw from, a stream with a share is empty, or two have one name.
    """

    def __init__(self, streams: Sequence[Stream], *, sequence_tokens: int, seed: int) -> None:
        self.streams = tuple(streams)
        self.sequence_tokens = sequence_tokens
        self.seed = seed
        shares = _integer_shares(self.streams)
        self._tree = _huffman(shares, self.streams)
        self._shares = {stream.name: share for stream, share in zip(self.streams, shares, strict=True)}
        self._blocks = [-(-stream.tokens // sequence_tokens) for stream in self.streams]
        facts = sorted(f"{s.name}|{s.tokens}|{self._shares[s.name]}|{s.fingerprint}" for s in self.streams)
        self.fingerprint = hash_text("order-1", str(sequence_tokens), str(seed), *facts)

    def locate(self, index: int) -> Location:
        """Where the sequence with this global index lies; the same work however large the index."""
        node: _Leaf | _Fork = self._tree
        while isinstance(node, _Fork):
            before = node.left_before(index)
            if node.left_before(index + 1) > before:
                node, index = node.left, before
            else:
                node, index = node.right, index - before
        epoch, nth = divmod(index, self._blocks[node.stream])
        return Location(node.stream, epoch, self._start(node.stream, epoch, nth))

    def counts(self, index: int) -> dict[str, int]:
        """How many of the first `index` sequences come from each stream."""
        counts = {stream.name: 0 for stream in self.streams}
        pending: list[tuple[_Leaf | _Fork, int]] = [(self._tree, index)]
        while pending:
            node, arrivals = pending.pop()
            if isinstance(node, _Leaf):
                counts[self.streams[node.stream].name] = arrivals
            else:
                left = node.left_before(arrivals)
                pending += [(node.left, left), (node.right, arrivals - left)]
        return counts

    def reached(self, names: Collection[str], sequences: int) -> int:
        """The smallest index before which the streams of these names were drawn from so many times, all of them together.

        So training can go on with another mixture without showing them the same text again. They must have a share.
        """
        low, high = 0, 1
        while self._drawn(names, high) < sequences:
            low, high = high, 2 * high
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._drawn(names, middle) < sequences else (low, middle)
        return low

    def _drawn(self, names: Collection[str], index: int) -> int:
        return sum(count for name, count in self.counts(index).items() if name in names)

    def share(self, name: str) -> float:
        """The part of all trained tokens that come from this stream."""
        return self._shares[name] / self._tree.share

    def _start(self, stream: int, epoch: int, nth: int) -> int:
        source = self.streams[stream]
        hasher = blake3(f"{self.seed}|{source.name}|{source.fingerprint}|{epoch}".encode())
        digest = hasher.digest(length=8 * (1 + _ROUNDS))
        offset, *keys = (int.from_bytes(digest[at : at + 8], "little") for at in range(0, len(digest), 8))
        block = permute(nth, self._blocks[stream], keys)
        return (offset + block * self.sequence_tokens) % source.tokens


def permute(index: int, size: int, keys: Sequence[int]) -> int:
    """The image of `index` under a permutation of `range(size)` chosen by 64-bit `keys`, one a round."""
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    while True:
        left, right = index >> half_bits, index & mask
        for key in keys:
            left, right = right, left ^ (_hash(right ^ key) & mask)
        index = left << half_bits | right
        if index < size:
            return index


def _hash(value: int) -> int:
    """A 64-bit mixer (the finaliser of splitmix64, Steele et al. 2014)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)


def _integer_shares(streams: Sequence[Stream]) -> list[int]:
    """Shares as integers; a stream with any weight has at least one part in 2**32."""
    names = [stream.name for stream in streams]
    if len(set(names)) != len(names):
        raise InvalidCorpus(f"two streams have one name: {', '.join(names)}", cure="Give each source its own `name`.")
    for stream in streams:
        if stream.weight > 0 and stream.tokens <= 0:
            raise InvalidCorpus(
                "holds no tokens to train on", where=stream.name, cure="Remove the source or give it text."
            )
    total = sum((Fraction(stream.weight) for stream in streams), Fraction(0))
    if total <= 0:
        raise InvalidCorpus("there is no text to train on", cure="Give a source with a weight above 0.")
    exact = [Fraction(stream.weight) / total * _SHARE_SCALE for stream in streams]
    return [max(1, round(share)) if share > 0 else 0 for share in exact]


def _huffman(shares: Sequence[int], streams: Sequence[Stream]) -> _Leaf | _Fork:
    """The tree that joins the two smallest shares again and again; ties go by name, so the streams' order is immaterial."""
    by_name = sorted((number for number, share in enumerate(shares) if share > 0), key=lambda n: streams[n].name)
    heap: list[tuple[int, int, _Leaf | _Fork]] = [
        (shares[number], rank, _Leaf(number, shares[number])) for rank, number in enumerate(by_name)
    ]
    heapq.heapify(heap)
    for rank in range(len(heap), 2 * len(heap) - 1):
        (small, _, left), (large, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        heapq.heappush(heap, (small + large, rank, _Fork(left, right, small + large)))
    return heap[0][2]
