"""A prompt continued, token by token: always with the likeliest, or drawn; several texts from one prompt at once.

The prompt is read once, in chunks, so that the logits of all of it never exist. Then its cache is copied for each text. The
rows grow together and are of equal length, so there is no padding; a row that has ended leaves.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steep.model.score import evaluating, same_precision
from steep.model.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from steep.model.cache import GrowingCache

CHUNK_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Choice:
    """How the next token is chosen.

    Args:
        temperature: logits are divided by it; 0 takes the likeliest.
        top_p: share of probability of the likeliest tokens that are drawn from.
        generator: of random numbers, on the model's device; None uses torch's own.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    generator: torch.Generator | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a row.

    Args:
        row: from 0.
        id: its own.
        logprob: how likely the model held it, in nats, whatever the choice; None where that was not asked for.
        top: ids of the likeliest ones, and how likely; the likeliest first.
    """

    row: int
    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def read_prompt(
    model: PreTrainedModel, vocabulary: Vocabulary, prompt: Sequence[int], memory: GrowingCache
) -> Iterator[Tensor]:
    """Read a prompt into the cache.

    Args:
        model: on its device, in any mode, which it is left in.
        vocabulary: its tokenizer.
        prompt: ids; one at least, and no more than the context holds.
        memory: an empty cache.

    Yields:
        Logits `[tokens, vocab]` of what follows each token, a chunk of the prompt at a time.
    """
    ids = torch.tensor([list(prompt)], device=model.device)
    with evaluating(model):
        for chunk in ids.split(CHUNK_TOKENS, dim=1):
            yield _logits(model, vocabulary, chunk, memory)[0]


def write_rows(
    model: PreTrainedModel,
    vocabulary: Vocabulary,
    logits: Tensor,
    memory: GrowingCache,
    *,
    rows: int = 1,
    max_tokens: int,
    choice: Choice = Choice(),
    top: int | None = None,
    goes_on: Callable[[int], bool] = lambda row: True,
) -> Iterator[list[Token]]:
    """Go on from a prompt that was read.

    Args:
        model, vocabulary, memory: as for `read_prompt`.
        logits: `[vocab]`, of what follows the prompt.
        rows: texts that are written.
        max_tokens: of each.
        choice: of each token.
        top: tell how likely each token was, and as many of the likeliest ones; None tells neither.
        goes_on: whether a row is still wanted; asked after each token.

    Yields:
        One token of each row that is left. A row whose token is EOS has ended, and so has one that is not wanted.
    """
    left = torch.arange(rows, device=model.device)
    following = logits[None].expand(rows, -1)
    with evaluating(model):
        for number in range(max_tokens):
            ids = _choose(following, choice)
            yield _tokens(left, ids, following, top)
            pairs = enumerate(zip(left.tolist(), ids.tolist(), strict=True))
            kept = [place for place, (row, token) in pairs if token != vocabulary.eos_id and goes_on(row)]
            if not kept or number + 1 == max_tokens:
                return
            if number == 0 or len(kept) < len(left):
                places = torch.tensor(kept, device=model.device)
                left, ids = left[places], ids[places]
                memory.keep_rows(places if number else torch.zeros_like(places))  # at first there is one, the prompt's
            following = next_logits(model, vocabulary, ids[:, None], memory)


def score_ids(logits: Tensor, ids: Sequence[int], top: int) -> list[Token]:
    """How likely ids were that are known already: those of a prompt, each after its own row of logits.

    Args:
        logits: `[tokens, vocab]`.
        ids: as many.
        top: as for `write_rows`.
    """
    given = torch.tensor(list(ids), device=logits.device)
    return _tokens(torch.zeros_like(given), given, logits, top)


def draw(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """One id a row, with the probabilities of the softmax: where the running sum passes a random share of the whole.

    Args:
        logits: `[rows, vocab]`.
        generator: of random numbers.
    """
    sums = torch.softmax(logits.float(), dim=-1).cumsum_(-1)
    shares = torch.rand(len(logits), 1, generator=generator, device=logits.device) * sums[:, -1:]
    return torch.searchsorted(sums, shares, right=True)[:, 0].clamp_(max=logits.shape[1] - 1)


def next_logits(model: PreTrainedModel, vocabulary: Vocabulary, inputs: Tensor, memory: GrowingCache) -> Tensor:
    """What follows the inputs; ids that the tokenizer does not have are left out.

    Args:
        model: in evaluation mode.
        vocabulary: its tokenizer.
        inputs: ids `[rows, tokens]`.
        memory: of what came before; they are added to it.

    Returns:
        Logits `[rows, vocab]`.
    """
    return _logits(model, vocabulary, inputs, memory)[:, -1]


def _choose(logits: Tensor, choice: Choice) -> Tensor:
    if choice.temperature == 0:
        return logits.argmax(-1)
    return draw(_nucleus(logits.float() / choice.temperature, choice.top_p), choice.generator)


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """The same with all ids left out that come after the likeliest ones have their share together; the likeliest stays."""
    if top_p >= 1:
        return logits
    likeliest, order = torch.softmax(logits, -1).sort(-1, descending=True)
    beyond = likeliest.cumsum(-1) - likeliest >= top_p
    beyond[:, 0] = False
    return logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), float("-inf"))


def _tokens(rows: Tensor, ids: Tensor, logits: Tensor, top: int | None) -> list[Token]:
    pairs = zip(rows.tolist(), ids.tolist(), strict=True)
    if top is None:
        return [Token(row, token) for row, token in pairs]
    shares = torch.log_softmax(logits.float(), -1)
    own = shares.gather(-1, ids[:, None])[:, 0].tolist()
    best = shares.topk(min(top, shares.shape[-1]), -1)
    others = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        Token(row, token, logprob, tuple(zip(*each, strict=True)))
        for (row, token), logprob, each in zip(pairs, own, others, strict=True)
    ]


@torch.no_grad()
def _logits(model: PreTrainedModel, vocabulary: Vocabulary, inputs: Tensor, memory: GrowingCache) -> Tensor:
    named = {_cache_argument(model): memory}
    with same_precision(model.device):
        logits: Tensor = model(input_ids=inputs, **named, use_cache=True).logits
    return logits[..., : vocabulary.size]


def _cache_argument(model: PreTrainedModel) -> str:
    """What the library calls the cache; newer versions gave it another name."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
