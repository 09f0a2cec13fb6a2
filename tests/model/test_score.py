"""Bits per byte are those of a slow loop over the library's plain model, one token's label at a time."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.model.conftest import TEXT_VOCAB, write_ids
from tests.model.families import UNLIKE, make

from steep.artifacts.pieces import cut_pieces
from steep.artifacts.tokens import TokenDataset
from steep.corpus.document import Document
from steep.corpus.tokenize import CorpusTokenizer, write_token_dataset
from steep.model import score as module
from steep.model.score import HoldoutScore, score_dataset, score_text

EOS = 0


@torch.no_grad()
def slow_nats(model: Any, pieces: list[list[int]], start_id: int, context: int) -> float:
    nats = 0.0
    for ids in pieces:
        stream = [start_id, *ids]
        bounds = [*range(0, len(ids), context), len(ids)]
        for begin, end in pairwise(bounds):
            logits = model(torch.tensor([stream[begin:end]]), use_cache=False).logits[0].double()
            labels = torch.tensor(stream[begin + 1 : end + 1])
            nats -= float(torch.log_softmax(logits, -1)[torch.arange(end - begin), labels].sum())
    return nats


def test_real_text_costs_what_a_slow_loop_says(texts: list[str], tokenizer_dir: Path) -> None:
    tokenizer = CorpusTokenizer.load(str(tokenizer_dir))
    some = [*texts[:2], texts[2] * 4]  # the last one is cut
    ours = score_text(make("llama", vocab_size=TEXT_VOCAB), tokenizer, some)
    plain = make("llama", vocab_size=TEXT_VOCAB, attention="eager")
    pieces = [ids.tolist() for text in some for ids in tokenizer.encode_batch(cut_pieces(text))]
    assert ours.tokens == sum(len(ids) for ids in pieces)
    assert ours.text_bytes == sum(len(text.encode()) for text in some)
    expected = slow_nats(plain, pieces, tokenizer.eos_id, 64)
    assert ours.nats == pytest.approx(expected, rel=1e-6)
    assert ours.bpb == pytest.approx(expected / math.log(2) / ours.text_bytes, rel=1e-6)


def test_a_holdout_scores_as_its_text_does(texts: list[str], tokenizer_dir: Path, tmp_path: Path) -> None:
    tokenizer = CorpusTokenizer.load(str(tokenizer_dir))
    pieces = [piece for text in texts for piece in cut_pieces(text)]
    documents = [Document(id=str(n), text=text, source="s", origin=str(n)) for n, text in enumerate(pieces)]
    write_token_dataset(documents, tokenizer, tmp_path, name="holdout", keep_texts=True)
    model = make("llama", vocab_size=TEXT_VOCAB)
    stored = score_dataset(model, TokenDataset(tmp_path), max_tokens=10_000, context=64)
    fresh = score_text(model, tokenizer, texts, max_tokens=10_000)
    assert (stored.tokens, stored.text_bytes) == (fresh.tokens, fresh.text_bytes)
    assert stored.nats == pytest.approx(fresh.nats, rel=1e-9)
    assert 8_000 < stored.tokens <= 10_000


@pytest.mark.parametrize("family", UNLIKE)
def test_every_family_scores_alike_with_our_attention_and_with_the_librarys(
    family: str, id_dataset: TokenDataset
) -> None:
    ours = score_dataset(make(family), id_dataset, max_tokens=1000, context=32)
    plain = make(family, attention="eager")
    theirs = score_dataset(plain, id_dataset, max_tokens=1000, context=32)
    assert ours.nats == pytest.approx(theirs.nats, rel=1e-5)
    stream, pieces, start = id_dataset.read(0, len(id_dataset)).tolist(), [], 0
    for tokens, _ in id_dataset.documents().tolist():
        pieces.append(stream[start : start + tokens - 1])
        start += tokens
    assert ours.nats == pytest.approx(slow_nats(plain, pieces, EOS, 32), rel=1e-5)
    assert ours.tokens == len(id_dataset) - len(pieces)


def test_bos_is_the_start_token_where_there_is_one(tmp_path: Path) -> None:
    pieces = [np.array([5, 6, 7], dtype=np.uint32), np.array([8, 9], dtype=np.uint32)]
    write_ids(tmp_path, pieces, bos_id=1)
    result = score_dataset(make("llama"), TokenDataset(tmp_path), max_tokens=100, context=32)
    expected = slow_nats(make("llama", attention="eager"), [[5, 6, 7], [8, 9]], 1, 32)
    assert result.nats == pytest.approx(expected, rel=1e-6)
    assert result.tokens == 5


@pytest.mark.parametrize(("max_tokens", "pieces"), [(1, 1), (30, 1), (36, 1), (37, 2), (38, 3), (1000, 5)])
def test_whole_pieces_are_scored_and_one_at_least(id_dataset: TokenDataset, max_tokens: int, pieces: int) -> None:
    result = score_dataset(make("llama"), id_dataset, max_tokens=max_tokens, context=32)
    lengths = id_dataset.documents()[:pieces]
    assert result.tokens == int(lengths[:, 0].sum()) - pieces
    assert result.text_bytes == int(lengths[:, 1].sum())


def test_the_number_does_not_depend_on_how_windows_are_batched(
    id_dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score_dataset(make("llama"), id_dataset, max_tokens=1000, context=16)
    monkeypatch.setattr(module, "BATCH_TOKENS", {"cpu": 17})
    monkeypatch.setattr(module, "chunk_tokens", lambda device, vocab_size: 3)
    parts = score_dataset(make("llama"), id_dataset, max_tokens=1000, context=16)
    assert parts.nats == pytest.approx(whole.nats, rel=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_stays(id_dataset: TokenDataset, training: bool) -> None:
    model = make("gpt2", resid_pdrop=0.5, embd_pdrop=0.5).train(training)
    first, second = (score_dataset(model, id_dataset, max_tokens=100, context=32) for _ in range(2))
    assert first == second
    assert all(part.training is training for part in model.modules())


def test_no_text_has_no_bits_per_byte(tokenizer_dir: Path) -> None:
    tokenizer = CorpusTokenizer.load(str(tokenizer_dir))
    assert score_text(make("llama", vocab_size=TEXT_VOCAB), tokenizer, [""]) == HoldoutScore(0.0, 0, 0)
    assert math.isnan(HoldoutScore(0.0, 0, 0).bpb)


@pytest.mark.shared
@pytest.mark.slow
def test_a_real_base_scores_as_it_was_measured(shared_data: Path) -> None:
    from steep.model.load import load_model

    base = shared_data / "weights" / "novels-5M"
    text = (shared_data / "general" / "wikitext2").glob("*.txt")
    texts = [path.read_text() for path in sorted(text) if path.name != "SOURCE.txt"]
    result = score_text(load_model(str(base)), CorpusTokenizer.load(str(base)), texts, max_tokens=8000)
    assert result.bpb == pytest.approx(1.81, abs=0.12)
