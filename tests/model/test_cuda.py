"""What the model room does on a GPU: the kernels there say what plain arithmetic in float64 says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model.families import EOS, documents, make, pairs
from torch.nn.functional import cross_entropy, linear

from steep.artifacts.tokens import TokenDataset
from steep.model import attention
from steep.model.attention import attend, by_segments
from steep.model.batch import IGNORED, Batch, pack
from steep.model.generate import sample_texts
from steep.model.loss import Head, LanguageModelLoss, head_of, hidden_states, linear_cross_entropy
from steep.model.score import score_dataset

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")
HALF = torch.bfloat16


def away(ours: torch.Tensor, exact: torch.Tensor) -> float:
    """How far from the exact values, relative to their size; what should be nothing counts as a hundredth each."""
    exact = exact.detach().double().cpu()
    return float((ours.detach().double().cpu() - exact).norm() / (exact.norm() + 0.01 * exact.numel() ** 0.5))


@pytest.mark.parametrize("window", [None, 1, 100, 5000])
@pytest.mark.parametrize(("heads", "kv_heads", "width"), [(4, 4, 64), (6, 2, 128), (4, 1, 32)])
@pytest.mark.parametrize("bounds", [[0, 300, 301, 700, 1024], [0, 512, 1024]])
@pytest.mark.parametrize(("dtype", "tolerance"), [(HALF, 2e-2), (torch.float32, 2e-3)])
def test_attention_is_that_of_float64_segment_by_segment(
    dtype: torch.dtype, tolerance: float, bounds: list[int], heads: int, kv_heads: int, width: int, window: int | None
) -> None:
    torch.manual_seed(0)
    given = [torch.randn(1, number, bounds[-1], width).to(dtype) for number in (heads, kv_heads, kv_heads)]
    exact = [tensor.double().requires_grad_() for tensor in given]
    expected = by_segments(*exact, bounds, 0.2, window)
    outer = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, exact, outer)
    leaves = [tensor.to(CUDA).requires_grad_() for tensor in given]
    longest = max(stop - start for start, stop in pairwise(bounds))
    result, _ = attend(
        torch.nn.Module(), *leaves, None, scaling=0.2, sliding_window=window,
        cu_seq_lens_q=torch.tensor(bounds, dtype=torch.int32, device=CUDA), max_length_q=longest,
    )  # fmt: skip
    assert result.shape == expected.shape
    assert away(result, expected) < tolerance
    for ours, theirs in zip(torch.autograd.grad(result, leaves, outer.to(CUDA, dtype)), wanted, strict=True):
        assert away(ours, theirs) < tolerance


def logits(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return head_of(model).logits(hidden_states(model, batch.to(CUDA)))


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "gemma2", "gpt_neox", "gpt2", "olmo2", "phi3"])
@pytest.mark.parametrize("dtype", [HALF, torch.float32])
def test_logits_do_not_change_when_the_neighbours_do(family: str, dtype: torch.dtype) -> None:
    model = make(family).to(CUDA, dtype)
    before, after, mine, other = documents([9, 14, 12, 9])
    far = documents([5, 9], seed=1)
    first = logits(model, pack(pairs([before, mine, after])))[9:21]
    second = logits(model, pack(pairs([other, mine, *far])))[9:21]
    assert torch.equal(first, second)
    alone = logits(model, pack(pairs([mine])))
    assert away(first, alone) < (3e-2 if dtype == HALF else 1e-3)


@pytest.mark.parametrize(("scale", "softcap", "bias"), [(1.0, None, False), (0.25, None, True), (1.0, 30.0, False)])
def test_the_loss_is_that_of_float64(scale: float, softcap: float | None, bias: bool) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 5000, (900,))
    labels[::7] = IGNORED
    given = {"hidden": torch.randn(900, 256), "weight": torch.randn(5000, 256) / 16}
    if bias:
        given["bias"] = torch.randn(5000)
    given = {name: tensor.to(HALF) for name, tensor in given.items()}
    exact = {name: tensor.double().requires_grad_() for name, tensor in given.items()}
    raw = scale * linear(exact["hidden"], exact["weight"], exact.get("bias"))
    raw = raw if softcap is None else softcap * torch.tanh(raw / softcap)
    expected = cross_entropy(raw, labels, ignore_index=IGNORED, reduction="sum")
    wanted = torch.autograd.grad(expected / 7, list(exact.values()))
    leaves = {name: tensor.to(CUDA).requires_grad_() for name, tensor in given.items()}
    head = Head(leaves["weight"], leaves.get("bias"), scale, softcap)
    nats = linear_cross_entropy(leaves["hidden"], head, labels.to(CUDA))
    assert away(nats, expected) < 1e-3
    for ours, theirs in zip(torch.autograd.grad(nats / 7, list(leaves.values())), wanted, strict=True):
        assert away(ours, theirs) < 1e-2


def test_a_model_with_its_loss_learns_the_same_gradient_as_on_the_cpu() -> None:
    batch = pack(pairs(documents([30, 20, 14])))
    gradients = []
    for device in (torch.device("cpu"), CUDA):
        model = LanguageModelLoss(make("llama")).to(device)
        nats, labels = model(batch.to(device))
        (nats / labels).backward()
        gradients.append([parameter.grad.cpu() for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert away(other, one) < 5e-3


def test_hold_outs_are_scored_through_the_kernel_for_segments(
    id_dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "by_segments", None)
    assert score_dataset(make("llama").to(CUDA), id_dataset, max_tokens=1000, context=64).bpb > 0


def test_heads_that_the_kernel_does_not_take_go_segment_by_segment() -> None:
    model = make("llama", head_dim=12).to(CUDA, HALF)
    assert logits(model, pack(pairs(documents([9, 14])))).isfinite().all()


def test_a_holdout_scores_as_on_the_cpu(id_dataset: TokenDataset) -> None:
    settings: dict[str, Any] = {"max_tokens": 1000, "context": 64}
    here = score_dataset(make("llama"), id_dataset, **settings)
    there = score_dataset(make("llama").to(CUDA), id_dataset, **settings)
    assert there.text_bytes == here.text_bytes
    assert there.bpb == pytest.approx(here.bpb, rel=5e-3)


def test_a_base_speaks(tokenizer_dir: Path, texts: list[str]) -> None:
    model = make("llama", vocab_size=320).to(CUDA)
    sampler: Callable[..., Any] = sample_texts
    said = list(sampler(model, str(tokenizer_dir), num_tokens=2000, seed=3, progress=lambda *_: None))
    assert said
    assert EOS == 0
    again = list(sampler(model, str(tokenizer_dir), num_tokens=2000, seed=3, progress=lambda *_: None))
    assert again == said
