"""Text from a model: documents sampled from nothing, and prompts continued greedily.

Rows of a batch begin with the same one token and grow together, so there is no padding, and each row is one document that sees
only itself. A row that has reached its end leaves the batch; when all have, the next batch begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import psutil
import torch

from steep.model.continuations import draw, next_logits, read_prompt, write_rows
from steep.model.score import context_tokens, evaluating, same_precision
from steep.model.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

Progress = Callable[[str, float, float | None], None]

MAX_DOCUMENT_TOKENS = 1024
"""Longer documents are cut: a batch of fewer, longer rows is slower, and the text is no better further on."""

MAX_ROWS = {"cpu": 128, "cuda": 512}
_CACHE_SHARE = (
    1 / 4
)  # of a device's memory, for keys and values; the same whatever is free, so that a seed gives the same text
_TELL_EVERY = 16
_IDLE_SHARE = 1 / 8  # of rows that have ended: from here on it pays to copy the cache without them


def sample_texts(
    model: PreTrainedModel, tokenizer_dir: str, *, num_tokens: int, seed: int, progress: Progress | None = None
) -> Iterator[str]:
    """Documents that the model writes from nothing but its start token, drawn at temperature 1.

    Args:
        model: on its device, in any mode, which it is left in.
        tokenizer_dir: its tokenizer, a directory or hub id.
        num_tokens: tokens to sample in all; the last batch is of whole documents and goes a little beyond.
        seed: the same one gives the same text, on the same device.
        progress: told of tokens sampled.

    Yields:
        Texts without special tokens, in no order; one that the end of the context cut off ends there.
    """
    vocabulary = Vocabulary.load(tokenizer_dir)
    generator = torch.Generator(model.device).manual_seed(seed)
    longest = min(context_tokens(model), MAX_DOCUMENT_TOKENS)
    most = most_rows(model.config.get_text_config(), longest, model.device)
    sampled, expected = 0, float(longest)

    def tell(tokens: int) -> None:
        if progress is not None:
            progress("tokens sampled", min(sampled + tokens, num_tokens), num_tokens)

    while sampled < num_tokens:
        rows = min(most, math.ceil((num_tokens - sampled) / expected))
        documents = _sample(model, vocabulary, rows, longest, generator, tell)
        written = sum(len(ids) for ids in documents)
        sampled += written
        expected = max(
            1.0, written / rows
        )  # the first batch told how long they are: one more wide one, not many narrow
        yield from (vocabulary.decode(ids) for ids in documents)


def most_rows(config: PretrainedConfig, longest: int, device: torch.device) -> int:
    """Documents of `longest` tokens that are sampled at a time: keys and values of all of them have to fit in memory."""
    on_gpu = device.type == "cuda"
    memory = torch.cuda.get_device_properties(device).total_memory if on_gpu else psutil.virtual_memory().total
    settings: Any = config
    heads = getattr(settings, "num_key_value_heads", None) or settings.num_attention_heads
    width = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
    row_bytes = 2 * 4 * settings.num_hidden_layers * heads * width * longest
    return max(1, min(MAX_ROWS.get(device.type, MAX_ROWS["cpu"]), int(_CACHE_SHARE * memory / row_bytes)))


def complete(model: PreTrainedModel, tokenizer_dir: str, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
    """How the model goes on from each prompt when it always takes the likeliest token; without the prompt itself.

    Args:
        model: on its device, in any mode, which it is left in.
        tokenizer_dir: its tokenizer, a directory or hub id.
        prompts: beginnings of documents.
        max_new_tokens: tokens at most; a document's end comes sooner, and so does the end of the context.
    """
    vocabulary = Vocabulary.load(tokenizer_dir)
    with same_precision(model.device):  # around all of it, so that weights are cast once and not for each token
        return [_continue(model, vocabulary, vocabulary.encode(prompt), max_new_tokens) for prompt in prompts]


@torch.no_grad()
def _sample(
    model: PreTrainedModel,
    vocabulary: Vocabulary,
    rows: int,
    longest: int,
    generator: torch.Generator,
    tell: Callable[[int], None],
) -> list[list[int]]:
    """One batch of documents: their ids, EOS included where it was reached."""
    from steep.model.cache import GrowingCache

    written = torch.full((rows, longest), vocabulary.eos_id, device=model.device)
    lengths = torch.full((rows,), longest, device=model.device)
    memory = GrowingCache()
    there = torch.arange(rows, device=model.device)  # which documents the rows of the batch are
    inputs = torch.full((rows, 1), vocabulary.start_id, device=model.device)
    going_on = torch.ones(rows, dtype=torch.bool, device=model.device)
    with evaluating(model), same_precision(model.device):
        for position in range(longest):
            ids = draw(next_logits(model, vocabulary, inputs, memory), generator)
            written[there[going_on], position] = ids[going_on]
            ends = going_on & (ids == vocabulary.eos_id)
            lengths[there[ends]] = position + 1
            going_on &= ~ends
            num_left = int(going_on.sum())
            if num_left == 0:
                break
            if num_left <= len(there) * (1 - _IDLE_SHARE):
                kept = going_on.nonzero()[:, 0]
                there, ids, going_on = there[kept], ids[kept], going_on[kept]
                memory.keep_rows(kept)
            inputs = ids[:, None]
            if position % _TELL_EVERY == 0:
                tell(int(lengths.clamp(max=position + 1).sum()))
    return [row[:length] for row, length in zip(written.tolist(), lengths.tolist(), strict=True)]


def _continue(model: PreTrainedModel, vocabulary: Vocabulary, prompt: list[int], max_new_tokens: int) -> str:
    from steep.model.cache import GrowingCache

    context = context_tokens(model)
    prompt = prompt[-context:]
    memory, ids = GrowingCache(), list(prompt)
    for chunk in read_prompt(model, vocabulary, prompt, memory):
        logits = chunk[-1]
    longest = min(max_new_tokens, context + 1 - len(prompt))
    for (token,) in write_rows(model, vocabulary, logits, memory, max_tokens=longest):
        if token.id != vocabulary.eos_id:
            ids.append(token.id)
    before, whole = vocabulary.decode(prompt), vocabulary.decode(ids)
    return whole.removeprefix(before)
