"""Low-rank adapters (LoRA, arXiv 2106.09685): small matrices trained beside every linear layer but the head.

A layer's weight W becomes W + alpha / rank * B A. Names of adapter weights are those that peft gives them within the model:
`model.layers.0.mlp.up_proj.lora_A.default.weight`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from steep.artifacts.files import atomic_writer, write_atomic
from steep.artifacts.hub import split_revision
from steep.spec.errors import InvalidInput, InvalidModel
from steep.spec.extras import install_extra
from steep.spec.job import Lora

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_DOWN, _UP = ".lora_A.default.weight", ".lora_B.default.weight"
_SEED = 17  # the same adapters at every start, so that training that begins again begins the same


def scale_of(lora: Lora) -> float:
    """Factor of what the adapters add."""
    return alpha_of(lora) / lora.rank


def alpha_of(lora: Lora) -> float:
    """LoRA's alpha: as given, else twice the rank."""
    return 2.0 * lora.rank if lora.alpha is None else lora.alpha


def add_lora(model: PreTrainedModel, lora: Lora) -> PreTrainedModel:
    """Put adapters into a model, in place; afterwards they alone are trained. They change nothing before the first step.

    Raises:
        InvalidInput: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise InvalidInput(
            "adapters need peft, which is not installed",
            where="training.method",
            cure="Set training.method: full, or install it. " + install_extra("lora"),
        ) from error

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=alpha_of(lora),
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        bias="none",
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in model.modules()),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_A." in name or ".lora_B." in name)
    return model


def merge_weights(base: Mapping[str, Tensor], weights: Mapping[str, Tensor], lora: Lora) -> dict[str, Tensor]:
    """The base's weights with adapters merged into them.

    Args:
        base: weights of the base, by name.
        weights: those of a checkpoint of a model with adapters; what is not an adapter replaces the base's own.
        lora: what the adapters were made with.

    Returns:
        As many weights as the base has, under the same names, in the base's types; tied ones that no adapter changes stay
        tied.

    Raises:
        InvalidModel: the adapters do not belong to this base.
    """
    merged = dict(base)
    merged |= {name: weight for name, weight in weights.items() if name in base}
    transposed = is_transposed(base, weights)
    for layer in adapted_layers(weights):
        weight = _weight_of(base, layer)
        delta = scale_of(lora) * (weights[layer + _UP].float() @ weights[layer + _DOWN].float())
        delta = delta.T if transposed else delta
        if delta.shape != weight.shape:
            raise _foreign(f"the adapter of {layer} is {list(delta.shape)}, its weight {list(weight.shape)}")
        merged[f"{layer}.weight"] = (weight.float() + delta.to(weight.device)).to(weight.dtype)
    return merged


def write_adapter(
    base: Mapping[str, Tensor], weights: Mapping[str, Tensor], lora: Lora, out: Path, *, base_name: str
) -> None:
    """Write adapters as a directory that peft loads onto the base: `PeftModel.from_pretrained(base, out)`.

    Args:
        base, weights, lora: as for `merge_weights`.
        out: directory, made where it is not there.
        base_name: directory or hub id `org/name[@revision]` of the base, for the adapter's config.
    """
    from safetensors.torch import save

    name, revision = split_revision(base_name)
    layers = adapted_layers(weights)
    tensors = {
        f"base_model.model.{layer}.{part}.weight": weights[f"{layer}.{part}.default.weight"].float().contiguous()
        for layer in layers
        for part in ("lora_A", "lora_B")
    }
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": name,
        "revision": revision,
        "r": lora.rank,
        "lora_alpha": alpha_of(lora),
        "lora_dropout": lora.dropout,
        "target_modules": sorted({layer.rpartition(".")[2] for layer in layers}),
        "bias": "none",
        "fan_in_fan_out": is_transposed(base, weights),
        "inference_mode": True,
    }
    out.mkdir(parents=True, exist_ok=True)
    with atomic_writer(out / "adapter_model.safetensors") as stream:
        stream.write(save(tensors, metadata={"format": "pt"}))
    write_atomic(out / "adapter_config.json", json.dumps(config, indent=2))


def adapted_layers(weights: Mapping[str, Tensor]) -> list[str]:
    """Names of the layers that have adapters, in order.

    Raises:
        InvalidModel: there are none, or a half of one is missing.
    """
    layers = sorted(name.removesuffix(_DOWN) for name in weights if name.endswith(_DOWN))
    ups = sorted(name.removesuffix(_UP) for name in weights if name.endswith(_UP))
    if not layers or layers != ups:
        raise _foreign("there are no whole adapters among the weights")
    return layers


def is_transposed(base: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> bool:
    """Whether the base keeps its matrices as `[inputs, outputs]`, as GPT-2 does, all of whose layers are alike.

    A square matrix does not show it, but each block has others.
    """
    for layer in adapted_layers(weights):
        shape = (len(weights[layer + _UP]), weights[layer + _DOWN].shape[1])
        if shape[0] != shape[1]:
            return tuple(_weight_of(base, layer).shape) == shape[::-1]
    return False


def _weight_of(base: Mapping[str, Tensor], layer: str) -> Tensor:
    weight = base.get(f"{layer}.weight")
    if weight is None:
        raise _foreign(f"the base has no layer {layer}")
    return weight


def _foreign(what: str) -> InvalidModel:
    return InvalidModel(what, cure="Use the base that the adapters were trained on.")
