"""Keys and values of what was generated so far, in memory that is not copied at every token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

if TYPE_CHECKING:
    from typing import Any

_BLOCK_TOKENS = 128


class GrowingCache(Cache):
    """A cache of all layers of one batch of rows, which are all of the same length.

    The library's own one makes a new tensor for each token; here a block of room is made at a time. Sliding windows are left
    to the masks.
    """

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=_GrowingLayer)

    def keep_rows(self, rows: Tensor) -> None:
        """Forget all rows but these.

        Args:
            rows: int64 `[num_kept]`.
        """
        for layer in self.layers:
            layer.keep_rows(rows)


class _GrowingLayer(CacheLayerMixin):
    """Keys and values `[rows, heads, tokens, head_dim]` of a layer, with room for more tokens."""

    is_sliding = False

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self._tokens = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = _room_like(key_states), _room_like(value_states)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **others: Any) -> tuple[Tensor, Tensor]:
        """Add tokens; returns the keys and values of all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        stop = self._tokens + key_states.shape[2]
        while stop > self.keys.shape[2]:
            self.keys = torch.cat([self.keys, _room_like(self.keys)], 2)
            self.values = torch.cat([self.values, _room_like(self.values)], 2)
        self.keys[:, :, self._tokens : stop] = key_states
        self.values[:, :, self._tokens : stop] = value_states
        self._tokens = stop
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def keep_rows(self, rows: Tensor) -> None:
        """Forget all rows but these."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Tokens to mask for the next `query_length`, and where they begin."""
        return self._tokens + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens so far."""
        return self._tokens

    def get_max_length(self) -> int:
        """No limit."""
        return -1


def _room_like(states: Tensor) -> Tensor:
    """Room for a block of tokens."""
    rows, heads, _, dim = states.shape
    return states.new_empty(rows, heads, _BLOCK_TOKENS, dim)
