"""The split: fair, stable, never empty where it can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steep.artifacts.pieces import cut_pieces
from steep.corpus.holdouts import Holdout
from steep.corpus.split import (
    MAX_HOLDOUT_BYTES,
    choose,
    cut_out,
    cuts_documents,
    holdout_share,
    piece_keys,
    replay_holdout_share,
)

keys = st.lists(st.integers(0, 2**64 - 1), max_size=50).map(lambda numbers: np.array(numbers, dtype=np.uint64))


@given(keys, st.floats(0, 1))
def test_something_is_held_out_and_something_is_not(numbers, share):
    chosen = choose(numbers, share)
    if share > 0 and len(set(numbers.tolist())) >= 2:
        assert chosen.any()
        assert not chosen.all()
    elif share == 0 or len(numbers) < 2:
        assert not chosen.any()


@given(keys, keys, st.floats(0.05, 0.5))
def test_what_is_held_out_stays_so_when_the_corpus_grows(numbers, more, share):
    """But for the one that is taken only because nothing else was, or left only because all else was."""
    before = choose(numbers, share)
    after = choose(np.concatenate([numbers, more]), share)[: len(numbers)]
    limit = int(share * 2.0**64)
    ordinary = numbers < np.uint64(limit)
    settled = before & ordinary & (numbers != np.concatenate([numbers, more]).max(initial=0))
    assert (after[settled]).all()


def test_the_share_is_held_out():
    numbers = np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64)
    assert choose(numbers, 0.01).mean() == pytest.approx(0.01, rel=0.1)


def test_copies_with_one_key_go_to_one_side():
    numbers = np.repeat(np.random.default_rng(1).integers(0, 2**64, 1000, dtype=np.uint64), 3)
    chosen = choose(numbers, 0.1).reshape(-1, 3)
    assert (chosen.all(axis=1) | ~chosen.any(axis=1)).all()


@pytest.mark.parametrize(
    ("documents", "size", "share", "expected"),
    [
        (5000, 20_000_000, 0.01, False),
        (57, 44_000_000, 0.01, True),  # novels: half a book is no sample
        (57, 44_000_000, 0.10, False),  # five of them are
        (1, 20_000, 0.01, True),
        (50, 100_000, 0.01, False),  # small documents stay whole
        (0, 0, 0.01, False),
        (5, 10**9, 0.0, False),
    ],
)
def test_a_few_large_documents_are_cut(documents, size, share, expected):
    assert cuts_documents(documents, size, share) is expected


def test_no_more_is_held_out_than_can_be_scored():
    assert holdout_share(0.01, 10**6) == 0.01
    assert holdout_share(0.5, 10**9) * 10**9 == pytest.approx(MAX_HOLDOUT_BYTES)
    assert replay_holdout_share(44_000_000, 800_000) * 44_000_000 == pytest.approx(800_000)
    assert replay_holdout_share(20_000_000, 800_000) == 0.02
    assert replay_holdout_share(2_000_000, 800_000) * 2_000_000 == pytest.approx(200_000)
    assert replay_holdout_share(100_000, 800_000) == 0.2
    assert replay_holdout_share(0, 800_000) == 0


def test_a_cut_document_loses_its_held_out_pieces_and_nothing_else():
    text = "\n\n".join(f"Paragraph {i}. " + "word " * 200 for i in range(60))
    pieces = cut_pieces(text)
    held = np.zeros(len(pieces), dtype=np.bool_)
    held[[0, 3, 4, len(pieces) - 1]] = True
    kept, out = cut_out(text, held)
    assert out == [pieces[0], pieces[3], pieces[4], pieces[-1]]
    assert kept == ["".join(pieces[1:3]), "".join(pieces[5:-1])]


def test_a_holdout_keeps_the_first_pieces_by_hash_whatever_their_order():
    pieces = [f"piece {i} " * 50 for i in range(200)]
    first, second = Holdout(max_bytes=10_000), Holdout(max_bytes=10_000)
    for piece in pieces:
        first.add([piece])
    second.add(pieces[::-1])
    first.settle()
    second.settle()
    assert first.texts == second.texts
    assert first.text_bytes <= 10_000 < first.text_bytes + 600
    assert first.text_bytes + first.left_bytes == sum(map(len, pieces))
    order = piece_keys(first.texts)
    assert (order[1:] >= order[:-1]).all()
    assert int(order[-1]) <= int(np.sort(piece_keys(pieces))[len(first.texts)])
