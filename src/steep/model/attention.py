"""Attention that stays within documents, for every family that uses the library's attention interface.

`register()` makes `attn_implementation="steep"` known. A model called with `Batch.model_arguments()` then attends within
the segments of the batch: through variable-length kernels on a GPU, elsewhere segment by segment through torch's fused
kernel. Called in any other way (generation with a cache, padded batches) it behaves like `sdpa`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from steep.spec.errors import InvalidModel

NAME = "steep"
_VARLEN = "varlen"
_kernels: dict[str, Callable[..., Any]] = {}
_WIDEST_HEAD = 256  # that the kernel takes
_LEAST_BLOCK = 256  # queries of a block, where only a window is seen


@cache
def register() -> str:
    """Make the attention known to transformers; returns its name."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """The attention function, as transformers calls it.

    Args:
        module: the attention layer.
        query: `[batch, heads, N, head_dim]`; batch is 1 when segment bounds are given.
        key, value: `[batch, kv_heads, N, head_dim]`.
        attention_mask: used only without segment bounds.
        dropout: probability with which a weight is dropped.
        scaling: factor of the scores; by default `head_dim ** -0.5`.
        sliding_window: tokens seen at most, itself included.
        softcap: scores are bent to stay within plus and minus this.
        cu_seq_lens_q: int32 `[num_segments + 1]`, where segments begin, and N.
        max_length_q: tokens of the longest segment.
        others: what other implementations want.

    Returns:
        `[batch, N, heads, head_dim]`, and None for the weights.
    """
    if others.get("s_aux") is not None:
        raise InvalidModel("its attention uses sinks, which are not supported", cure="Choose a base of another family.")
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    if cu_seq_lens_q is None:
        if softcap is not None:
            return _capped(query, key, value, scale, softcap, attention_mask, dropout).transpose(1, 2), None
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scale, **others)
    if softcap is None and dropout == 0.0 and (half := _kernel_type(query)) is not None:
        assert max_length_q is not None
        query, key, value = (tensor[0].transpose(0, 1).to(half) for tensor in (query, key, value))
        return _varlen(query, key, value, cu_seq_lens_q, max_length_q, scale, sliding_window)[None], None
    window = None if sliding_window is None or sliding_window >= (max_length_q or 0) else int(sliding_window)
    return by_segments(query, key, value, cu_seq_lens_q.tolist(), scale, window, softcap, dropout), None


def _kernel_type(query: Tensor) -> torch.dtype | None:
    """The type in which the GPU's kernel for segments of any length computes this; None where it cannot.

    It takes half precision, on GPUs from Ampere on, and heads of some widths. Under autocast rotations leave queries and keys in
    fp32, which is not what was asked for.
    """
    if not query.is_cuda or query.shape[-1] % 8 or query.shape[-1] > _WIDEST_HEAD:
        return None
    wanted = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else query.dtype
    if wanted not in (torch.bfloat16, torch.float16) or torch.cuda.get_device_capability(query.device) < (8, 0):
        return None
    return wanted


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scale: float, window: int | None
) -> Tensor:
    """The GPU's kernel for segments of any length; `[N, heads, dim]` in and out."""
    sees = (-1 if window is None else window - 1, 0)
    kernel = _kernels.get(_VARLEN) or load_kernel()
    mixed: Tensor = kernel(query, key, value, bounds, bounds, longest, longest, scale=scale, window_size=sees)
    return mixed


def load_kernel() -> Callable[..., Any]:
    """Import the GPU's kernel, which takes a second or two: only where it is used, and before anything is compiled.

    Fewer heads of keys than of queries are no trouble to it; newer versions of torch want to be told.
    """
    from torch.nn.attention.varlen import varlen_attn

    told = "enable_gqa" in inspect.signature(varlen_attn).parameters
    kernel: Callable[..., Any] = partial(varlen_attn, enable_gqa=True) if told else varlen_attn
    _kernels[_VARLEN] = kernel
    return kernel


def by_segments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: list[int],
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Each segment by itself, on any device; arguments as of `attend`, with the bounds as a list."""
    lengths = [stop - start for start, stop in pairwise(bounds)]
    if softcap is None:
        groups = query.shape[1] // key.shape[1]
        if groups > 1:
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        if len(set(lengths)) == 1 and window is None:  # as rows of a batch, without taking them apart
            q, k, v = (tensor[0].unflatten(1, (-1, lengths[0])).transpose(0, 1) for tensor in (query, key, value))
            mixed = scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scale)
            return mixed.transpose(1, 2).flatten(0, 1)[None]
    parts = []
    for q, k, v in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True):
        if softcap is not None:
            length = q.shape[2]
            parts.append(_capped(q, k, v, scale, softcap, _band(length, length, window, like=q), dropout))
        elif window is None or window >= q.shape[2]:
            parts.append(scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scale))
        else:
            parts += _windowed(q, k, v, scale, window, dropout)
    return torch.cat(parts, 2).transpose(1, 2)


def _windowed(query: Tensor, key: Tensor, value: Tensor, scale: float, window: int, dropout: float) -> list[Tensor]:
    """One segment, in blocks of queries with the keys that any of them sees: no mask of all its tokens squared."""
    parts = []
    size = max(window, _LEAST_BLOCK)
    for first, block in zip(range(0, query.shape[2], size), query.split(size, 2), strict=True):
        keys = slice(max(0, first - window + 1), first + block.shape[2])
        sees = _band(block.shape[2], keys.stop - keys.start, window, like=query)
        parts.append(
            scaled_dot_product_attention(
                block, key[:, :, keys], value[:, :, keys], attn_mask=sees, dropout_p=dropout, scale=scale
            )
        )
    return parts


def _band(rows: int, keys: int, window: int | None, *, like: Tensor) -> Tensor:
    """Which of the last `keys` tokens each of the last `rows` tokens sees, `[rows, keys]`."""
    before = keys - rows
    sees = torch.ones(rows, keys, dtype=torch.bool, device=like.device).tril_(before)
    return sees if window is None else sees.triu_(before + 1 - window)


def _capped(
    query: Tensor, key: Tensor, value: Tensor, scale: float, softcap: float, mask: Tensor | None, dropout: float
) -> Tensor:
    """Attention with bent scores, as Gemma 2 has it; `[batch, heads, N, dim]` in and out.

    Args:
        mask: True where a key is seen, or what is added to the scores; None: causal.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = softcap * torch.tanh(query @ key.transpose(2, 3) * (scale / softcap))
    if mask is None:
        rows, keys = scores.shape[-2:]
        mask = torch.ones(rows, keys, dtype=torch.bool, device=scores.device).tril_(keys - rows)
    least = torch.finfo(scores.dtype).min  # finite, so that a padding row, which sees nothing, is no NaN
    scores = scores.masked_fill(~mask, least) if mask.dtype == torch.bool else scores + mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return nn.functional.dropout(weights, dropout) @ value
