"""Causal attention within segments, by plain matrix products: the quick way on a CPU.

For each segment, blocks of queries meet the keys that they may see, so half of the products of a long segment are never
computed and no more than one block of scores is in memory. Few processors' fused kernels are as quick as their matrix
products, which is why this wins there. Backward computes the probabilities a second time.

A segment is filled up with zeros to a multiple of `LENGTH_STEP`: what follows a token cannot be seen by it, so nothing
changes but the number of different shapes. Libraries compile a kernel for each shape and keep it, several MB apiece.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

QUERY_BLOCK = 128
LENGTH_STEP = 32  # divides QUERY_BLOCK


def gemm_attention(
    query: Tensor, key: Tensor, value: Tensor, bounds: list[int], scale: float, window: int | None
) -> Tensor:
    """Attention of each token over the tokens before it in its segment, and itself.

    Args:
        query: `[heads, N, head_dim]`.
        key, value: `[kv_heads, N, head_dim]`; `heads` is a multiple of `kv_heads`.
        bounds: where segments begin, and N.
        scale: factor of the scores.
        window: tokens seen at most, itself included; None sees the whole segment.

    Returns:
        `[N, heads, head_dim]`, contiguous.
    """
    return _GemmAttention.apply(query, key, value, bounds, scale, window)


class _GemmAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bounds: list[int], scale: float, window: int | None
    ) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.arguments = bounds, scale, window
        heads, tokens, _ = query.shape
        weigh = _Weigh(heads, scale, window, query)
        out = value.new_empty(tokens, heads, value.shape[2])
        for start, stop in pairwise(bounds):
            queries, keys, values = (_filled(tensor[:, start:stop]) for tensor in (query, key, value))
            for low, first, last in _blocks(keys.shape[1], window):
                weights = weigh(_group(queries[:, first:last], len(keys)), keys[:, low:last], first - low)
                mixed = torch.bmm(weights, values[:, low:last]).view(heads, last - first, -1)
                rows = slice(start + first, min(start + last, stop))
                out[rows] = mixed[:, : rows.stop - rows.start].transpose(0, 1)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        bounds, scale, window = ctx.arguments
        heads = len(query)
        weigh = _Weigh(heads, scale, window, query)
        grad_out = gradients[0].transpose(0, 1)
        grad_query, grad_key, grad_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for start, stop in pairwise(bounds):
            queries, keys, values, grads = (_filled(t[:, start:stop]) for t in (query, key, value, grad_out))
            key_sum = torch.zeros_like(keys, dtype=torch.float32)
            value_sum = torch.zeros_like(values, dtype=torch.float32)
            for low, first, last in _blocks(keys.shape[1], window):
                chosen, grad = (_group(tensor[:, first:last], len(keys)) for tensor in (queries, grads))
                weights = weigh(chosen, keys[:, low:last], first - low)
                value_sum[:, low:last] += torch.bmm(weights.transpose(1, 2), grad)
                grad_weights = torch.bmm(grad, values[:, low:last].transpose(1, 2))
                grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
                rows = slice(start + first, min(start + last, stop))
                grad_rows = torch.bmm(grad_scores, keys[:, low:last]).view(heads, last - first, -1)
                grad_query[:, rows] = grad_rows[:, : rows.stop - rows.start]
                key_sum[:, low:last] += torch.bmm(grad_scores.transpose(1, 2), chosen)
            grad_key[:, start:stop] = key_sum[:, : stop - start].mul_(scale)
            grad_value[:, start:stop] = value_sum[:, : stop - start]
        return grad_query.mul_(scale), grad_key, grad_value, None, None, None


def _blocks(length: int, window: int | None) -> Iterator[tuple[int, int, int]]:
    """(first key, first query, end of both) of each block of queries of a segment."""
    for first in range(0, length, QUERY_BLOCK):
        yield 0 if window is None else max(0, first - window + 1), first, min(first + QUERY_BLOCK, length)


def _filled(tensor: Tensor) -> Tensor:
    """`[heads, length, dim]` with zeros up to a multiple of `LENGTH_STEP`, contiguous."""
    heads, length, dim = tensor.shape
    if length % LENGTH_STEP == 0:
        return tensor.contiguous()
    filled = tensor.new_zeros(heads, length + -length % LENGTH_STEP, dim)
    filled[:, :length] = tensor
    return filled


def _group(tensor: Tensor, kv_heads: int) -> Tensor:
    """`[heads, rows, dim]` as `[kv_heads, heads / kv_heads * rows, dim]`, contiguous."""
    heads, rows, dim = tensor.shape
    return tensor.contiguous().view(kv_heads, heads // kv_heads * rows, dim)


class _Weigh:
    """Softmax of the scores of a block of queries; keeps the biases that forbid the future."""

    def __init__(self, heads: int, scale: float, window: int | None, like: Tensor) -> None:
        self._heads, self._scale, self._window, self._like = heads, scale, window, like
        self._future: dict[int, Tensor] = {}

    def __call__(self, query: Tensor, key: Tensor, before: int) -> Tensor:
        """Weights `[kv_heads, heads / kv_heads * rows, keys]`.

        Args:
            query: grouped.
            key: `[kv_heads, keys, head_dim]`; the block's own are the last.
            before: keys before the block's own.
        """
        rows, keys = key.shape[1] - before, key.shape[1]
        scores = torch.baddbmm(self._like.new_empty(()), query, key.transpose(1, 2), beta=0, alpha=self._scale)
        by_head = scores.view(self._heads, rows, keys)
        by_head[:, :, before:] += self._bias(rows)
        if self._window is not None and keys > self._window:
            past = torch.ones(rows, keys, dtype=torch.bool, device=key.device).tril_(before - self._window)
            by_head.masked_fill_(past, float("-inf"))
        return torch.softmax(scores, dim=-1)

    def _bias(self, rows: int) -> Tensor:
        if rows not in self._future:
            self._future[rows] = self._like.new_full((rows, rows), float("-inf")).triu_(1)
        return self._future[rows]
