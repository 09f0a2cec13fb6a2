"""Evaluation text in training documents: found where it is much, not where it is a phrase."""

from __future__ import annotations

import random

import numpy as np
import pytest

from steep.corpus.decontaminate import COMMON_DOCUMENTS, RUN_WORDS, EvaluationText, sample_runs
from steep.corpus.words import ngram_hashes, word_hashes


def text(count: int, seed: int) -> str:
    chosen = random.Random(seed)
    return " ".join(f"w{chosen.randrange(10**6)}" for _ in range(count))


def judge(evaluation: list[str], documents: list[str], *, group: int = -1) -> list[bool]:
    words = word_hashes(documents)
    runs = sample_runs(words)
    index = EvaluationText(evaluation, [0] * len(evaluation))
    index.meet(runs)
    index.forget_common()
    totals = np.maximum(words.stops - words.starts - RUN_WORDS + 1, 1)
    suspects = set(index.suspects(runs).tolist())
    found = [index.contaminates(runs.row(i), int(totals[i]), group) for i in range(len(documents))]
    assert suspects >= {i for i, each in enumerate(found) if each}  # the quick look misses none
    return found


QUESTION = text(60, 1)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (QUESTION, True),
        (QUESTION.upper().replace(" ", "\n- "), True),  # case, space and punctuation do not hide it
        (f"{text(3000, 2)} {QUESTION} {text(3000, 3)}", True),  # all of it in a long document
        (text(60, 4), False),
        (" ".join(QUESTION.split()[:12]), False),  # a phrase
        (f"{text(200, 5)} {' '.join(QUESTION.split()[:25])} {text(200, 6)}", False),  # a quotation
        ("", False),
    ],
)
def test_a_document_with_evaluation_text(document, expected):
    assert judge([QUESTION, text(500, 7)], [document, text(100, 8)])[0] is expected


def test_half_a_document_is_too_much():
    held = text(400, 1).split()
    mostly = " ".join(held[100:200] + text(60, 2).split())  # a small part of the hold-out, most of the document
    slightly = " ".join(held[100:140] + text(200, 3).split())
    assert judge([" ".join(held)], [mostly, slightly]) == [True, False]


def test_what_many_documents_share_is_nobodys():
    form = text(80, 1)
    held = f"{form} {text(15, 2)}"
    documents = [f"{form} {text(15, 10 + i)}" for i in range(COMMON_DOCUMENTS + 1)]
    assert not any(judge([held], documents))
    assert all(judge([held], documents[:-1]))  # ten do not make it common


def test_a_document_may_hold_text_of_its_own_group():
    assert judge([QUESTION], [QUESTION], group=0) == [False]


def test_a_short_prompt_may_be_quoted():
    prompt = "A decorator is"
    assert judge([prompt], [f"{prompt} a function. {text(100, 1)}", prompt.lower()]) == [False, True]


def test_an_empty_index_answers():
    assert judge([], [QUESTION]) == [False]
    assert judge([""], [QUESTION, ""]) == [False, False]


def test_the_sample_is_the_same_in_every_text():
    long = text(20_000, 1)
    words = word_hashes([long, " ".join(long.split()[:400])])
    sample = sample_runs(words)
    every = ngram_hashes(words, RUN_WORDS)
    for number in (0, 1):
        assert len(sample.row(number)) == pytest.approx(len(every.row(number)) / (4, 2)[number], rel=0.1)
        assert set(sample.row(number).tolist()) <= set(every.row(number).tolist())
    shared = set(every.row(1).tolist()) & set(sample.row(0).tolist())
    assert shared <= set(sample.row(1).tolist())  # what the sparser one has of the other, that one has too
    short = word_hashes([text(100, 2)])
    assert len(sample_runs(short).values) == 100 - RUN_WORDS + 1  # of a short text, all
