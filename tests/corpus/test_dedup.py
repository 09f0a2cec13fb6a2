"""Copies: exact ones, near ones, and what is not a copy."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.artifacts.disks import small_disk

from steep.corpus.dedup import (
    NUM_BINS,
    Clusters,
    band_hashes,
    band_width,
    content_hashes,
    first_copies,
    join_alike,
    likeness,
    near_copies,
    signatures,
)
from steep.corpus.words import word_hashes

__all__ = ["small_disk"]


def words(count: int, seed: int) -> list[str]:
    chosen = random.Random(seed)
    return [f"w{chosen.randrange(5000)}" for _ in range(count)]


def edited(base: list[str], changes: int, seed: int) -> list[str]:
    """The same text with some words replaced."""
    chosen = random.Random(seed)
    text = list(base)
    for place in chosen.sample(range(len(text)), changes):
        text[place] = f"new{seed}x{place}"
    return text


def jaccard(one: list[str], other: list[str]) -> float:
    """Of the sets of runs of five words, counted."""
    sets = [{tuple(text[i : i + 5]) for i in range(len(text) - 4)} for text in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def marks(texts: list[list[str]]):
    return signatures(word_hashes([" ".join(text) for text in texts]))


def clusters_of(texts: list[list[str]], threshold: float = 0.8) -> Clusters:
    signature = marks(texts)
    bands = band_hashes(signature, threshold)
    clusters = Clusters(len(texts))
    for number in range(bands.shape[1]):
        join_alike(clusters, bands[:, number], np.arange(len(texts)), signature, threshold)
    return clusters


def test_exact_copies_do_not_mind_case_and_space():
    hashes = content_hashes(["A  text\n", "a text", "another", "a\ttext", "ANOTHER", ""])
    assert first_copies(hashes).tolist() == [0, 0, 2, 0, 2, 5]
    assert first_copies(hashes[:0]).tolist() == []
    assert content_hashes(["a + b"])[0].tolist() != content_hashes(["a - b"])[0].tolist()  # code is told apart


@pytest.mark.parametrize("count", [30, 200, 3000])
def test_likeness_is_close_to_the_true_similarity(count):
    errors = []
    for seed in range(30):
        base = words(count, seed)
        other = edited(base, max(1, count * (seed % 6) // 60), seed + 1)
        one, two = marks([base, other])
        errors.append(likeness(one[None], two[None])[0] - jaccard(base, other))
    assert abs(float(np.mean(errors))) < 0.03
    assert float(np.std(errors)) < 0.07


def test_texts_without_words_are_like_nothing():
    signature = signatures(word_hashes(["", "--- !!!", "one two"]))
    assert likeness(signature[:1], signature[1:2])[0] == 0
    assert (band_hashes(signature, 0.8)[:2] == 0).all()
    assert (band_hashes(signature, 0.8)[2] != 0).all()


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_miss_few_pairs_at_the_threshold(threshold):
    width = band_width(threshold)
    assert 1 - (1 - threshold**width) ** (NUM_BINS // width) >= 0.98
    if width < NUM_BINS:
        wider = width + 1
        assert 1 - (1 - threshold**wider) ** (NUM_BINS // wider) < 0.98  # no wider ones would do


def test_near_copies_are_found_and_others_are_not():
    texts = [words(300, seed) for seed in range(100)]
    close = [edited(text, 4, seed) for seed, text in enumerate(texts)]  # likeness of about 0.87
    apart = [edited(text, 40, seed) for seed, text in enumerate(texts)]  # of about 0.35
    roots = clusters_of(texts + close + apart).roots()
    together = sum(roots[i] == roots[i + 100] for i in range(100))
    assert together >= 95
    assert len(set(roots[:100].tolist())) == 100
    assert all(roots[i] != roots[i + 200] for i in range(100))


def test_one_that_shares_a_band_by_chance_does_not_hide_the_others():
    signature = marks([words(200, 1), words(200, 2), edited(words(200, 2), 1, 3)])
    clusters = Clusters(3)
    join_alike(clusters, np.full(3, 7, dtype=np.uint64), np.arange(3), signature, 0.8)
    assert clusters.roots().tolist() == [0, 1, 1]


def test_short_texts_are_compared_exactly():
    base = ["one", "two", "three", "four", "five", "six", "seven"]
    longer = [*base, "eight"]  # three of four runs are the same
    signature = marks([base, longer, base])
    assert likeness(signature[:1], signature[1:2])[0] == pytest.approx(0.75)
    assert clusters_of([base, longer, base]).roots().tolist() == [0, 1, 0]


def test_the_longest_of_a_cluster_is_kept_and_a_chain_keeps_its_ends():
    base = words(200, 0)
    chain = [base[at : at + 150] for at in (0, 10, 20, 30, 40)]  # neighbours are alike, the ends are not
    signature = marks([*chain, base[:155]])
    members = np.arange(6)
    sizes = np.array([150, 150, 150, 150, 150, 155])
    dropped = near_copies(members, sizes, signature, 0.8).tolist()
    assert 5 not in dropped  # the longest
    kept = [i for i in range(6) if i not in dropped]
    assert len(kept) >= 2
    for number in dropped:  # each of them is alike one that is kept
        assert max(likeness(signature[number][None], signature[other][None])[0] for other in kept) >= 0.8
    for one in kept:
        for other in kept:
            assert one == other or likeness(signature[one][None], signature[other][None])[0] < 0.8


def test_clusters_are_the_same_whatever_the_order_of_joins():
    pairs = [(5, 3), (1, 2), (3, 2), (7, 6), (0, 9)]
    for seed in range(5):
        shuffled = random.Random(seed).sample(pairs, len(pairs))
        clusters = Clusters(10)
        for one, other in shuffled:
            clusters.join(one, other)
        assert clusters.roots().tolist() == [0, 1, 1, 1, 4, 1, 6, 6, 8, 0]


def test_signatures_that_do_not_fit_on_the_disk_end_in_an_error_and_not_in_a_signal(small_disk: Path) -> None:
    comparing = """
import sys
from pathlib import Path
import numpy as np
from steep.corpus.copies import _near
from steep.corpus.dedup import NUM_BINS, Clusters
from steep.spec.errors import OutOfSpace

class Part:
    def marks(self, *names):
        return {"signature": np.ones((2000, NUM_BINS), np.uint32)}

documents = np.arange(2000)
try:
    _near([Part()], documents, Clusters(2000), 0.8, documents, Path(sys.argv[1]) / "work", print)
except OutOfSpace as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", comparing, small_disk], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "signatures.bin: the disk is full" in done.stdout
