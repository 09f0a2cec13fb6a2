"""Tiny models with random weights, one of each family, and batches of a few documents for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from steep.model.attention import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VOCAB, EOS = 97, 0
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": EOS,
    "eos_token_id": EOS,
    "pad_token_id": None,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _SHAPE | {"tie_word_embeddings": True},
    "qwen2": _SHAPE,
    "qwen3": _SHAPE | {"head_dim": 8},
    "mistral": _SHAPE | {"sliding_window": 7},
    "gemma": _SHAPE | {"head_dim": 8},
    "gemma2": _SHAPE | {"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8},
    "gemma3_text": _SHAPE | {"head_dim": 8, "sliding_window": 6, "final_logit_softcapping": 5.0},
    "gpt_neox": _SHAPE | {"tie_word_embeddings": False},
    "gpt2": {
        "vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": EOS,
        "eos_token_id": EOS, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
    },
    "olmo2": _SHAPE,
    "phi": _SHAPE,
    "phi3": _SHAPE,
    "granite": _SHAPE | {"logits_scaling": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.5},
    "cohere": _SHAPE | {"logit_scale": 0.25},
    "smollm3": _SHAPE,
    "starcoder2": _SHAPE,
}  # fmt: skip

UNLIKE = ("llama", "mistral", "gemma2", "gemma3_text", "gpt_neox", "gpt2", "phi3", "granite", "cohere")
"""Families that have the least in common, for tests that need not run on all."""


def make(family: str, *, seed: int = 0, attention: str | None = None, **changes: Any) -> PreTrainedModel:
    """A tiny model of a family; weights are large enough that every part of the network matters."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **{**FAMILIES[family], **changes})
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention or register())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.15)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def documents(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    """Random ids, none of them EOS."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, VOCAB, length) for length in lengths]


def pairs(texts: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Inputs and labels of documents that begin with EOS as their start token."""
    return [(np.concatenate([[EOS], ids[:-1]]), ids) for ids in texts]
