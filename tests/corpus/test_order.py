"""Data order: a permutation each epoch, exact shares at every prefix, golden values."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steep.corpus.order import DataOrder, Stream, mix, permute
from steep.spec.errors import InvalidCorpus

GOLDEN = Path(__file__).parents[1] / "golden" / "data_order.json"
STREAMS = (
    Stream("peps", 2_000_003, 0.75, "f1"),
    Stream("docs", 150_001, 0.15, "f2"),
    Stream("novels", 999, 0.1, "f3"),
)

weights = st.floats(0.001, 1000, allow_nan=False)


def order(streams=STREAMS, sequence_tokens=512, seed=17) -> DataOrder:
    return DataOrder(streams, sequence_tokens=sequence_tokens, seed=seed)


def test_the_order_never_changes():
    golden = json.loads(GOLDEN.read_text())
    subject = order()
    for index, expected in golden["locations"].items():
        location = subject.locate(int(index))
        assert [location.stream, location.epoch, location.start] == expected, index
    assert subject.fingerprint == golden["fingerprint"]


@given(size=st.integers(1, 700), key=st.integers(0, 2**64 - 1))
def test_permute_is_a_permutation(size, key):
    keys = (key, key ^ 0x1234, key * 7 % 2**64, key + 99)
    assert sorted(permute(i, size, keys) for i in range(size)) == list(range(size))


@settings(max_examples=40)
@given(tokens=st.integers(1, 3000), sequence_tokens=st.integers(1, 64), seed=st.integers(0, 2**32 - 1))
def test_each_epoch_covers_every_block_and_every_token(tokens, sequence_tokens, seed):
    subject = order((Stream("a", tokens, 1.0, "f"),), sequence_tokens, seed)
    blocks = -(-tokens // sequence_tokens)
    for epoch in range(2):
        locations = [subject.locate(epoch * blocks + i) for i in range(blocks)]
        assert {location.epoch for location in locations} == {epoch}
        seen = Counter((location.start + i) % tokens for location in locations for i in range(sequence_tokens))
        assert set(seen) == set(range(tokens))
        assert sum(seen.values()) - tokens < sequence_tokens  # only the last block's tail comes twice


@settings(max_examples=60)
@given(parts=st.lists(weights, min_size=1, max_size=9), prefix=st.integers(0, 5000))
def test_shares_hold_at_every_prefix(parts, prefix):
    subject = order(tuple(Stream(f"s{i}", 1000, weight, f"f{i}") for i, weight in enumerate(parts)))
    bound = 1 if len(parts) <= 3 else 1.7
    counts = subject.counts(prefix)
    assert sum(counts.values()) == prefix
    for name, count in counts.items():
        assert abs(count - prefix * subject.share(name)) < bound


@settings(max_examples=30)
@given(parts=st.lists(weights, min_size=1, max_size=6), first=st.integers(0, 10**15))
def test_counts_agree_with_locate(parts, first):
    subject = order(tuple(Stream(f"s{i}", 1000, weight, f"f{i}") for i, weight in enumerate(parts)))
    before, after = subject.counts(first), subject.counts(first + 50)
    drawn = Counter(subject.streams[subject.locate(first + i).stream].name for i in range(50))
    assert {name: after[name] - before[name] for name in after} == {name: drawn[name] for name in after}


def test_far_out_costs_the_same():
    subject = order()

    def seconds(first: int) -> float:
        rounds = []
        for _ in range(5):
            started = time.perf_counter()
            for i in range(200):
                subject.locate(first + i)
            rounds.append(time.perf_counter() - started)
        return min(rounds)

    assert seconds(10**12) < 3 * seconds(0)


@pytest.mark.parametrize("num_workers", [1, 2, 3, 8])
def test_any_number_of_workers_sees_the_same_order(num_workers):
    whole = [order().locate(i) for i in range(96)]
    workers = [[order().locate(i) for i in range(rank, 96, num_workers)] for rank in range(num_workers)]
    merged = [location for group in itertools.zip_longest(*workers) for location in group if location]
    assert merged == whole


@pytest.mark.parametrize(
    "other",
    [
        order(seed=18),
        order(sequence_tokens=256),
        order((Stream("peps", 2_000_003, 0.75, "changed"), *STREAMS[1:])),
        order((Stream("peps", 2_000_003, 0.6, "f1"), *STREAMS[1:])),
    ],
    ids=["seed", "sequence", "content", "weight"],
)
def test_what_it_depends_on_changes_it(other):
    assert [order().locate(i) for i in range(40)] != [other.locate(i) for i in range(40)]
    assert order().fingerprint != other.fingerprint


def test_epochs_differ():
    subject = order((Stream("a", 51_200, 1.0, "f"),))
    first, second = ([subject.locate(e * 100 + i).start for i in range(100)] for e in range(2))
    assert first != second
    assert {start % 512 for start in first} != {start % 512 for start in second}  # the cuts move too


def test_streams_may_come_in_any_order():
    there, back = order(), order(STREAMS[::-1])
    assert there.fingerprint == back.fingerprint
    for i in range(200):
        one, other = there.locate(i), back.locate(i)
        assert one.stream == 2 - other.stream
        assert (one.epoch, one.start) == (other.epoch, other.start)


def test_mixture_counts_tokens():
    streams = mix(
        [Stream("big", 9000, 1.0, "a"), Stream("small", 500, 2.0, "b")],
        [Stream("r1", 300, 1.0, "c"), Stream("r2", 100, 1.0, "d")],
        0.2,
    )
    subject = order(streams, sequence_tokens=10)
    assert [round(subject.share(s.name), 6) for s in streams] == [0.72, 0.08, 0.15, 0.05]


def test_no_replay_leaves_its_streams_out():
    subject = order(mix([Stream("a", 900, 1.0, "a")], [Stream("r", 300, 1.0, "c")], 0.0), sequence_tokens=10)
    assert subject.share("r") == 0
    assert {subject.locate(i).stream for i in range(500)} == {0}


@pytest.mark.parametrize(
    "build",
    [
        lambda: order(()),
        lambda: order((Stream("a", 0, 1.0, "f"),)),
        lambda: order((Stream("a", 10, 1.0, "f"), Stream("a", 10, 1.0, "g"))),
        lambda: mix([Stream("a", 10, 1.0, "f")], [], 0.1),
    ],
    ids=["no streams", "empty stream", "same name", "no replay text"],
)
def test_nothing_to_draw_from_is_refused(build):
    with pytest.raises(InvalidCorpus):
        build()


@given(sequences=st.integers(0, 5000), index=st.integers(0, 5000))
def test_where_another_mixture_has_shown_as_much_of_some_streams(sequences, index):
    subject, some = order(), ("peps", "novels")

    def drawn(index: int) -> int:
        return sum(subject.counts(index)[name] for name in some)

    found = subject.reached(some, sequences)
    assert drawn(found) == sequences
    assert found == 0 or drawn(found - 1) < sequences
    assert subject.reached(subject.counts(0), index) == index  # of all streams, it is the index itself
