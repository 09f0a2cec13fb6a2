"""Words as hashes: the same words in every text, whatever stands around them and however texts are batched."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steep.corpus import words
from steep.corpus.words import Rows, ngram_hashes, span_hashes, word_hashes

SENTENCE = "The quick brown fox -- it JUMPED over 12 lazy_dogs; and (again) the fox."
texts = st.lists(st.text(alphabet="abAB01_ .,-\nüßñ日本語😀“”—", max_size=60), max_size=8)


def reference(text: str) -> list[str]:
    """Words by a regular expression: each wide character alone, other letters and digits in runs."""
    wide = "[\u3000-\ud7ff\U00010000-\U0010ffff]"
    return re.findall(rf"{wide}|[a-z0-9_\x80-\u1fff]+", text.lower())


def test_equal_words_have_equal_hashes_and_others_differ():
    found = word_hashes([SENTENCE]).values.tolist()
    expected = reference(SENTENCE)
    assert len(found) == len(expected)
    assert len(set(found)) == len(set(expected))
    for one, same in zip(found, expected, strict=True):
        assert one == found[expected.index(same)]


@settings(max_examples=300)
@given(texts)
def test_words_are_those_of_the_reference_in_any_batch(batch):
    rows = word_hashes(batch)
    assert np.diff(rows.stops, prepend=0).tolist() == [len(reference(text)) for text in batch]
    alone = [word_hashes([text]).values for text in batch]
    assert np.array_equal(rows.values, np.concatenate([np.zeros(0, np.uint64), *alone]))


def test_hashes_never_change():
    """Parts on disk and hold-outs depend on them."""
    golden = ["0xff004faeec920d47", "0xee6031c7c59b623b", "0xd9a2d6e1126f6468"]
    assert [hex(value) for value in word_hashes(["a fox 語"]).values.tolist()] == golden


def test_blocks_do_not_show(monkeypatch):
    text = " ".join(f"word{i % 97} and{i}" for i in range(2000))
    whole = word_hashes([text, "x", text])
    runs = ngram_hashes(whole, 5)
    monkeypatch.setattr(words, "_BLOCK", 64)
    small = word_hashes([text, "x", text])
    assert np.array_equal(whole.values, small.values)
    assert np.array_equal(runs.values, ngram_hashes(small, 5).values)
    assert np.array_equal(whole.row(0), whole.row(2))


@settings(max_examples=100)
@given(st.lists(st.lists(st.integers(0, 5), max_size=12), max_size=6), st.integers(1, 6))
def test_ngrams_stay_within_their_text(rows, length):
    values = np.array([value for row in rows for value in row], dtype=np.uint64)
    stops = np.cumsum([len(row) for row in rows], dtype=np.int64) if rows else np.zeros(0, np.int64)
    found = ngram_hashes(Rows(values, stops), length)
    windows = [tuple(row[i : i + length]) for row in rows if row for i in range(max(1, len(row) - length + 1))]
    assert len(found.values) == len(windows)
    known: dict[tuple[int, ...], int] = {}
    for window, value in zip(windows, found.values.tolist(), strict=True):
        assert known.setdefault(window, value) == value
    assert len(set(known.values())) == len(known)  # different windows, different hashes


def test_a_run_without_spaces_is_hashed_by_its_beginning():
    endless = word_hashes(["A" * (words._BLOCK * 2) + " tail"])
    assert len(endless.values) == 2
    assert endless.values[1] == word_hashes(["tail"]).values[0]


@pytest.mark.parametrize("length", [1, 7])
def test_a_span_hash_depends_on_order_and_length(length):
    values = np.array([1, 2, 3, 3, 2, 1, 0, 0], dtype=np.uint64)
    starts = np.array([0, 3, 6, 7], dtype=np.int64)
    stops = np.minimum(starts + length, 8)
    hashes = span_hashes(values, starts, stops)
    assert len(set(hashes.tolist())) == len({tuple(values[a:b]) for a, b in zip(starts, stops, strict=True)})
