"""What a token costs to train, and what a GPU can do: together they make model FLOPs utilisation (MFU)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from steep.spec.devices import peak_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_PASSES = 3  # forward, and twice as much backward: gradients of inputs and of weights


def peak_flops(device: torch.device) -> float | None:
    """FLOPs a second that the device could make in bf16 at most; None for a CPU, and for a GPU that is not known."""
    return peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def flops_per_token(config: PretrainedConfig, sequence_tokens: int) -> float:
    """FLOPs to train every weight on one token, in a document that fills the sequence.

    Counted are the matrix products that the model needs: two operations for each weight of each linear layer and of the
    head, and attention over the tokens that are seen, which is half a sequence on average, or less with a sliding window.
    Not counted are what is computed twice to save memory, and all that is no matrix product. With shorter documents
    attention costs less than this, and with adapters the weights' own gradients are left out, a third of the whole.

    Args:
        config: of the model, any family.
        sequence_tokens: tokens of a sequence.
    """
    text: Any = config.get_text_config()
    heads = text.num_attention_heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    seen = sum(_tokens_seen(sequence_tokens, window) for window in _windows(text))
    forward = 2.0 * linear_weights(config) + 4.0 * heads * head_dim * seen
    return _PASSES * forward


def linear_weights(config: PretrainedConfig) -> int:
    """Weights that a token is multiplied with: those of all linear layers and the head, of experts only the chosen ones.

    The model is built without memory for its weights and looked at, so that every family counts right.
    """
    from transformers import AutoModelForCausalLM

    own_code = type(config).__module__.startswith("transformers_modules")  # which runs already, so it was trusted
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=own_code)
    text: Any = config.get_text_config()
    experts = getattr(text, "num_local_experts", None) or getattr(text, "num_experts", None) or 0
    chosen = getattr(text, "num_experts_per_tok", None) or 1
    total = 0
    for module in model.modules():
        for weight in () if isinstance(module, nn.Embedding) else module.parameters(recurse=False):
            if weight.ndim == 2:
                total += weight.numel()
            elif weight.ndim == 3 and weight.shape[0] == experts:  # the matrices of all experts
                total += weight.numel() * chosen // experts
    return total


def _windows(text: Any) -> list[int | None]:
    """Tokens that each layer's attention sees at most; None: all."""
    layers = text.num_hidden_layers
    window = getattr(text, "sliding_window", None)
    if window is None or getattr(text, "use_sliding_window", True) is False:
        return [None] * layers
    kinds = getattr(text, "layer_types", None) or ["sliding_attention"] * layers
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _tokens_seen(sequence_tokens: int, window: int | None) -> float:
    """Tokens that a token sees on average, itself included."""
    if window is None or window >= sequence_tokens:
        return (sequence_tokens + 1) / 2
    return window - window * (window - 1) / (2 * sequence_tokens)
