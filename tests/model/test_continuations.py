"""Prompts read in chunks and continued in several rows, for families that have little in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.model.conftest import TEXT_VOCAB
from tests.model.families import UNLIKE, make

from steep.model import continuations
from steep.model.cache import GrowingCache
from steep.model.continuations import Choice, Token, read_prompt, write_rows
from steep.model.vocabulary import Vocabulary

PROMPT = [0, 5, 9, 40, 77, 3, 12, 8, 30, 21, 6]


@pytest.mark.parametrize("family", UNLIKE)
def test_chunks_and_rows_change_nothing(family: str, tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuations, "CHUNK_TOKENS", 4)
    model, plain = make(family, vocab_size=TEXT_VOCAB).train(), make(family, vocab_size=TEXT_VOCAB, attention="eager")
    vocabulary, memory = Vocabulary.load(str(tokenizer_dir)), GrowingCache()
    chunks = list(read_prompt(model, vocabulary, PROMPT, memory))
    with torch.no_grad():
        whole = plain(torch.tensor([PROMPT]), use_cache=False).logits[0]
    assert torch.allclose(torch.cat(chunks), whole[:, : vocabulary.size], rtol=1e-3, atol=1e-3)
    written: dict[int, list[int]] = {}
    wanted = {0: 2, 1: 9, 2: 9}  # one row is no longer wanted after two tokens
    steps = write_rows(
        model, vocabulary, chunks[-1][-1], memory, rows=3, max_tokens=9,
        goes_on=lambda row: len(written[row]) < wanted[row],
    )  # fmt: skip
    for tokens in steps:
        for token in tokens:
            written.setdefault(token.row, []).append(token.id)
    assert model.training
    stream = list(PROMPT)
    with torch.no_grad():
        while len(stream) < len(PROMPT) + 9 and stream[-1] != vocabulary.eos_id:
            logits = plain(torch.tensor([stream]), use_cache=False).logits[0, -1, : vocabulary.size]
            stream.append(int(logits.argmax()))
    expected = stream[len(PROMPT) :]
    assert written == {row: expected[: wanted[row]] for row in range(3)}


def test_rows_that_differ_each_go_on_from_their_own_text(tokenizer_dir: Path) -> None:
    model, plain = make("llama", vocab_size=TEXT_VOCAB), make("llama", vocab_size=TEXT_VOCAB, attention="eager")
    vocabulary, memory = Vocabulary.load(str(tokenizer_dir)), GrowingCache()
    (logits,) = read_prompt(model, vocabulary, PROMPT, memory)
    written: dict[int, list[Token]] = {}
    wanted = {0: 2, 1: 12, 2: 5, 3: 12}  # rows leave in the middle, others move up
    steps = write_rows(
        model, vocabulary, logits[-1], memory, rows=4, max_tokens=12, top=0,
        choice=Choice(temperature=2.0, generator=torch.Generator().manual_seed(3)),
        goes_on=lambda row: len(written[row]) < wanted[row],
    )  # fmt: skip
    for tokens in steps:
        for token in tokens:
            written.setdefault(token.row, []).append(token)
    assert {row: len(tokens) for row, tokens in written.items()} == wanted
    assert len({tuple(token.id for token in tokens[:2]) for tokens in written.values()}) == 4
    for tokens in written.values():
        ids = [token.id for token in tokens]
        with torch.no_grad():
            whole = torch.log_softmax(plain(torch.tensor([PROMPT + ids]), use_cache=False).logits[0], -1)
        for place, token in enumerate(tokens, len(PROMPT) - 1):
            assert token.logprob == pytest.approx(float(whole[place, token.id]), abs=1e-2)
