"""Sampling follows the model's own probabilities, document by document; completions are the library's greedy ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model.conftest import TEXT_VOCAB
from tests.model.families import UNLIKE, make

from steep.model import generate
from steep.model.cache import GrowingCache
from steep.model.continuations import next_logits
from steep.model.generate import complete, sample_texts
from steep.model.vocabulary import Vocabulary
from steep.spec.errors import InvalidModel


@pytest.fixture
def vocabulary(tokenizer_dir: Path) -> Vocabulary:
    return Vocabulary.load(str(tokenizer_dir))


def sampled_ids(model: Any, vocabulary: Vocabulary, rows: int, longest: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return generate._sample(model, vocabulary, rows, longest, generator, lambda tokens: None)


def with_likely_end(model: Any) -> Any:
    """EOS gets a probability with which documents end early and at different lengths."""
    with torch.no_grad():
        model.get_output_embeddings().weight[0] *= 3
    return model


def test_tokens_come_with_the_models_probabilities(vocabulary: Vocabulary) -> None:
    model = make("llama", vocab_size=TEXT_VOCAB, tie_word_embeddings=False)
    model.get_output_embeddings().weight.data *= 4  # so that few tokens have most of the probability
    documents = sampled_ids(model, vocabulary, rows=6000, longest=2)
    with torch.no_grad():
        first = torch.softmax(model(torch.tensor([[vocabulary.start_id]])).logits[0, -1], -1)
        token = int(first.argmax())
        second = torch.softmax(model(torch.tensor([[vocabulary.start_id, token]])).logits[0, -1], -1)
    for probabilities, drawn in (
        (first, [ids[0] for ids in documents]),
        (second, [ids[1] for ids in documents if ids[0] == token and len(ids) > 1]),
    ):
        counts = torch.bincount(torch.tensor(drawn), minlength=TEXT_VOCAB).double()
        expected = probabilities.double() * len(drawn)
        many = expected >= 5
        cells = int(many.sum())
        assert cells >= 3
        chi = float(((counts - expected)[many] ** 2 / expected[many]).sum())
        assert chi < cells + 5 * math.sqrt(2 * cells)


def test_rows_that_end_leave_and_the_others_go_on_as_if_nothing_was(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = with_likely_end(make("llama", vocab_size=TEXT_VOCAB))
    left: list[int] = []
    keep_rows = GrowingCache.keep_rows
    monkeypatch.setattr(GrowingCache, "keep_rows", lambda cache, rows: (left.append(len(rows)), keep_rows(cache, rows)))
    logits: list[tuple[list[int], torch.Tensor]] = []
    draw = generate.draw

    def greedy(given: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        ids = draw(given, generator)
        logits.append((ids.tolist(), given.clone()))
        return ids

    monkeypatch.setattr(generate, "draw", greedy)
    documents = sampled_ids(model, vocabulary, rows=40, longest=60)
    lengths = {len(ids) for ids in documents}
    assert len(lengths) > 3
    assert len(left) > 2
    assert all(ids.index(0) == len(ids) - 1 for ids in documents if 0 in ids)
    last_ids, last_logits = logits[-1]
    longest = [ids for ids in documents if len(ids) == max(lengths)]
    for ids in longest:
        with torch.no_grad():
            alone = model(torch.tensor([[0, *ids[:-1]]]), use_cache=False).logits[0, -1]
        matches = [row for drawn, row in zip(last_ids, last_logits, strict=True) if drawn == ids[-1]]
        assert any(torch.allclose(row, alone, rtol=1e-4, atol=1e-4) for row in matches)


@pytest.mark.parametrize("family", UNLIKE)
def test_every_family_generates_with_the_growing_cache_as_the_library_does(
    family: str, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steep.model.cache._BLOCK_TOKENS", 6)
    model, plain = make(family, vocab_size=TEXT_VOCAB), make(family, vocab_size=TEXT_VOCAB, attention="eager")
    prompt = [0, 5, 9, 40, 77, 3]
    mine, ids, memory = [], torch.tensor([prompt]), GrowingCache()
    with torch.no_grad():
        for _ in range(12):
            ids = next_logits(model, vocabulary, ids, memory).argmax(-1)[:, None]
            mine.append(int(ids))
        stream = list(prompt)
        for _ in range(12):
            stream.append(int(plain(torch.tensor([stream]), use_cache=False).logits[0, -1].argmax()))
    assert mine == stream[len(prompt) :]


def test_the_same_seed_gives_the_same_text_and_another_one_another(tokenizer_dir: Path) -> None:
    model = with_likely_end(make("llama", vocab_size=TEXT_VOCAB)).train()
    heard: list[tuple[str, float, float | None]] = []

    def texts(seed: int) -> list[str]:
        tell = lambda *said: heard.append(said)  # noqa: E731
        return list(sample_texts(model, str(tokenizer_dir), num_tokens=900, seed=seed, progress=tell))

    one, same, other = texts(1), texts(1), texts(2)
    assert one == same
    assert one != other
    assert model.training
    assert not any("<|endoftext|>" in text for text in one)
    assert {total for _, _, total in heard} == {900}
    assert all(0 <= done <= 900 for _, done, _ in heard)


def test_as_many_tokens_as_were_asked_for(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, tokenizer_dir: Path
) -> None:
    model = with_likely_end(make("llama", vocab_size=TEXT_VOCAB))
    monkeypatch.setattr(generate, "MAX_ROWS", {"cpu": 8})
    sampled: list[int] = []
    sample = generate._sample

    def counting(*arguments: Any) -> list[list[int]]:
        documents = sample(*arguments)
        sampled.extend(len(ids) for ids in documents)
        return documents

    monkeypatch.setattr(generate, "_sample", counting)
    texts = list(sample_texts(model, str(tokenizer_dir), num_tokens=1500, seed=0))
    assert len(texts) == len(sampled)
    assert 1500 <= sum(sampled) <= 1500 + 8 * 64  # the last batch holds whole documents


def test_completions_are_greedy_and_without_the_prompt(vocabulary: Vocabulary, tokenizer_dir: Path) -> None:
    model, plain = make("llama", vocab_size=TEXT_VOCAB), make("llama", vocab_size=TEXT_VOCAB, attention="eager")
    prompts = ["A decorator is", "The with statement"]
    for prompt, text in zip(prompts, complete(model, str(tokenizer_dir), prompts, 10), strict=True):
        ids = torch.tensor([vocabulary.encode(prompt)])
        expected = plain.generate(ids, do_sample=False, max_new_tokens=10, pad_token_id=0)[0].tolist()
        assert prompt + text == vocabulary.decode(expected)


def test_completion_ends_with_the_context(tokenizer_dir: Path) -> None:
    model = make("llama", vocab_size=TEXT_VOCAB)
    assert complete(model, str(tokenizer_dir), ["word " * 200], 50) != [""]


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path, tokenizer_dir: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tokenizer_dir / "tokenizer.json").read_bytes())
    with pytest.raises(InvalidModel, match="end-of-text"):
        Vocabulary.load(str(tmp_path))


def test_the_vocabulary_agrees_with_that_of_the_corpus(tokenizer_dir: Path, vocabulary: Vocabulary) -> None:
    from steep.corpus.tokenize import CorpusTokenizer

    corpus = CorpusTokenizer.load(str(tokenizer_dir))
    start = corpus.eos_id if corpus.bos_id is None else corpus.bos_id
    assert (vocabulary.eos_id, vocabulary.start_id, vocabulary.size) == (corpus.eos_id, start, corpus.vocab_size)
    text = "A decorator is a function."
    assert vocabulary.encode(text) == [start, *corpus.encode_batch([text])[0].tolist()]


@pytest.mark.shared
def test_a_real_model_tells_its_story(shared_data: Path) -> None:
    from steep.model.load import load_model

    base = str(shared_data / "weights" / "stories260K" / "hf")
    [story] = complete(load_model(base), base, ["Once upon a time, there was a little girl named Lily."], 40)
    assert story.startswith(" She")


def test_a_large_base_writes_fewer_documents_at_a_time() -> None:
    from transformers import LlamaConfig

    small = LlamaConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4)
    large = LlamaConfig(hidden_size=8192, num_hidden_layers=100, num_attention_heads=64)
    cpu = torch.device("cpu")
    assert generate.most_rows(small, 512, cpu) == generate.MAX_ROWS["cpu"]
    rows = generate.most_rows(large, 1024, cpu)
    assert rows < 128
    memory = generate.psutil.virtual_memory().total
    assert rows == 1 or rows * 100 * 8192 * 2 * 4 * 1024 <= memory / 4
