"""No token sees another document, and within its own it sees what the library's plain attention shows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.model.families import FAMILIES, documents, make, pairs

from steep.model import attention
from steep.model.attention import by_segments
from steep.model.batch import Batch, pack
from steep.model.loss import head_of, hidden_states


def logits(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return head_of(model).logits(hidden_states(model, batch))


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_do_not_change_when_the_neighbours_do(family: str) -> None:
    model = make(family)
    before, after, mine = documents([9, 14, 12])
    others = documents([17, 6], seed=1)
    first = logits(model, pack(pairs([before, mine, after])))[9:21]
    second = logits(model, pack(pairs([others[0], mine, others[1]])))[17:29]
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_nor_when_all_are_of_one_length(family: str) -> None:
    model = make(family)
    mine, same, longer, shorter = documents([12, 12, 14, 10])
    first = logits(model, pack(pairs([same, mine])))[12:24]
    second = logits(model, pack(pairs([longer, mine, shorter])))[14:26]
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_librarys_plain_attention_on_each_document_alone(family: str) -> None:
    model, plain = make(family), make(family, attention="eager")
    texts = pairs(documents([13, 1, 20]))
    flat = logits(model, pack(texts)).split([len(inputs) for inputs, _ in texts])
    for (inputs, _), ours in zip(texts, flat, strict=True):
        with torch.no_grad():
            alone = plain(torch.from_numpy(inputs)[None], use_cache=False).logits[0]
        torch.testing.assert_close(ours, alone, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral", "gpt2"])
def test_padded_batches_and_generation_work_as_with_sdpa(family: str) -> None:
    model, plain = make(family), make(family, attention="eager")
    ids = torch.from_numpy(np.stack(documents([10, 10])))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    with torch.no_grad():
        ours = model(ids, attention_mask=mask).logits
        theirs = plain(ids, attention_mask=mask).logits
    torch.testing.assert_close(ours[mask.bool()], theirs[mask.bool()], rtol=2e-4, atol=2e-4)
    options = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    assert model.generate(ids, **options).tolist() == plain.generate(ids, **options).tolist()


@pytest.mark.parametrize("window", [None, 1, 5, 40])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("bounds", [[0, 3, 4, 37, 50], [0, 25, 50]])
def test_segments_agree_with_a_full_mask_in_value_and_gradient(
    monkeypatch: pytest.MonkeyPatch, heads: int, kv_heads: int, window: int | None, bounds: list[int]
) -> None:
    monkeypatch.setattr(attention, "_LEAST_BLOCK", 4)
    torch.manual_seed(0)
    inputs = [
        torch.randn(1, 50, number, 8, dtype=torch.float64).transpose(1, 2).requires_grad_()
        for number in (heads, kv_heads, kv_heads)
    ]
    outer = torch.randn(1, 50, heads, 8, dtype=torch.float64)
    segment = torch.bucketize(torch.arange(50), torch.tensor(bounds), right=True)
    distance = torch.arange(50)[:, None] - torch.arange(50)[None]
    seen = (segment[:, None] == segment[None]) & (distance >= 0) & (distance < (window or 50))
    query, key, value = inputs
    scores = 0.3 * query @ key.repeat_interleave(heads // kv_heads, 1).transpose(2, 3)
    weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), -1)
    expected = (weights @ value.repeat_interleave(heads // kv_heads, 1)).transpose(1, 2)
    wanted = torch.autograd.grad(expected, inputs, outer)
    result = by_segments(query, key, value, bounds, 0.3, window)
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(torch.autograd.grad(result, inputs, outer), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("window", [None, 100])
def test_a_long_document_needs_no_memory_for_all_its_scores(window: int | None) -> None:
    tokens = 3000
    with torch.no_grad():
        tensors = [torch.randn(1, 8, tokens, 8) for _ in range(3)]
        with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            by_segments(*tensors, [0, tokens], 0.3, window)
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert largest < 8 * tokens * tokens * 4 / 10
