"""What a token costs to train, and what a GPU can do: together they make model FLOPs utilisation (MFU)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_PASSES = 3  # forward, and twice as much backward: gradients of inputs and of weights
_PEAKS = (
    ("GB200", 2500e12),
    ("B200", 2250e12),
    ("B100", 1800e12),
    ("GH200", 989e12),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H800", 989e12),
    ("H20", 148e12),
    ("A100", 312e12),
    ("A800", 312e12),
    ("A40", 150e12),
    ("A30", 165e12),
    ("A10G", 70e12),
    ("A10", 125e12),
    ("L40S", 362e12),
    ("L40", 181e12),
    ("L4", 121e12),
    ("V100", 125e12),
    ("T4", 65e12),
    ("RTX 6000 Ada", 364e12),
    ("RTX A6000", 155e12),
    ("RTX 5090", 210e12),
    ("RTX 4090", 165e12),
    ("RTX 4080", 98e12),
    ("RTX 3090", 71e12),
    ("MI325X", 1307e12),
    ("MI300X", 1307e12),
    ("MI250X", 383e12),
)
"""Dense products in bf16 with fp32 sums, as the makers state them; fp16 where there is no bf16. The first name that fits."""


def peak_flops(device: torch.device) -> float | None:
    """FLOPs a second that the device could make in bf16 at most; None for a CPU, and for a GPU that is not known."""
    return peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_of(name: str) -> float | None:
    """As `peak_flops`, by the name that the driver gives the device."""
    words = f" {name.upper().replace('-', ' ').replace('GEFORCE', '')} "
    return next((peak for known, peak in _PEAKS if f" {known.upper()} " in f"{words} "), None)


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
