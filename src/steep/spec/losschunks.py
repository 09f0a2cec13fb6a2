"""How many logits the loss holds at a time: the loss works by it, and a memory plan counts with it."""

from __future__ import annotations

CHUNK_ELEMENTS = {"cpu": 16 * 2**20, "cuda": 128 * 2**20}
"""Logits of one chunk by the kind of device: few enough to stay in a CPU's cache, many enough for a large GPU."""

LEAST_CHUNK_TOKENS = 512


def chunk_tokens(device: str, vocab_size: int) -> int:
    """Tokens of a chunk."""
    return max(LEAST_CHUNK_TOKENS, CHUNK_ELEMENTS.get(device, CHUNK_ELEMENTS["cpu"]) // vocab_size)
