"""A new model with random weights, by architecture and the arguments of its config."""

from __future__ import annotations

import dataclasses
import difflib
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from steep.model.attention import register
from steep.model.probe import require_supported
from steep.model.quiet import quiet
from steep.spec.errors import InvalidSpec
from steep.spec.job import FromScratch

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

WHERE = "base.from_scratch"
INNER_GAIN = 1.0
_SINCE_LONG = (
    "rope_theta",
    "rope_scaling",
    "partial_rotary_factor",
    "torch_dtype",
)  # arguments from before the dataclasses
_INTO_RESIDUAL = ("o_proj", "down_proj", "c_proj", "out_proj", "dense", "dense_4h_to_h", "fc2", "w2")


def make_model(scratch: FromScratch, vocab_size: int, eos_id: int, seed: int) -> PreTrainedModel:
    """A causal language model with random fp32 weights, the same for the same seed, whose attention is ours.

    Args:
        scratch: architecture and config.
        vocab_size: rows of the embedding, one for each id of the tokenizer; a larger one in the config is kept.
        eos_id: the token that ends and begins every document.
        seed: of the weights; the process's own random numbers are left alone.

    Raises:
        InvalidSpec: the architecture or an argument is unknown, or they do not go together.
        InvalidModel: of that architecture no model can be trained on rows of documents.
    """
    from transformers import AutoModelForCausalLM

    config = _config(scratch, vocab_size, eos_id)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        try:
            model = AutoModelForCausalLM.from_config(config, attn_implementation=register(), dtype=torch.float32)
        except Exception as error:  # each family checks its own values in its own way
            raise InvalidSpec(f"makes no model ({error})", where=f"{WHERE}.config") from error
        if "initializer_range" not in scratch.config:
            _initialise(model)
    model.eval()
    require_supported(model, f"{WHERE}.architecture")
    return model


def _config(scratch: FromScratch, vocab_size: int, eos_id: int) -> PretrainedConfig:
    from transformers import AutoConfig

    _require_known(scratch)
    chosen: dict[str, Any] = {"bos_token_id": eos_id, "eos_token_id": eos_id, "pad_token_id": None, **scratch.config}
    if chosen.setdefault("vocab_size", vocab_size) < vocab_size:
        raise InvalidSpec(
            f"is {chosen['vocab_size']}, but the tokenizer has {vocab_size} ids",
            where=f"{WHERE}.config.vocab_size",
            cure="Leave it out; the tokenizer decides it.",
        )
    try:
        with quiet():
            return AutoConfig.for_model(scratch.architecture, **chosen)
    except Exception as error:  # each family checks its own values in its own way
        said = str(error).strip().splitlines()[-1].strip()
        raise InvalidSpec(
            f"{scratch.architecture} cannot be made from these arguments: {said}",
            where=f"{WHERE}.config",
            cure="Mend the argument that is named there.",
        ) from error


def _require_known(scratch: FromScratch) -> None:
    """Refuse names that the library does not know; it would take a wrong argument and do nothing with it."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    families = [name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name in CONFIG_MAPPING_NAMES]
    if scratch.architecture not in families:
        raise InvalidSpec(
            f"there is no causal language model {scratch.architecture!r}",
            where=f"{WHERE}.architecture",
            cure=_suggest(scratch.architecture, families, "Give the model_type of a family that transformers knows."),
        )
    kind = CONFIG_MAPPING[scratch.architecture]
    known = [field.name for field in dataclasses.fields(kind)] + [*kind.attribute_map, *_SINCE_LONG]
    for name in scratch.config:
        if name not in known:
            raise InvalidSpec(
                f"{scratch.architecture} has no argument {name!r}",
                where=f"{WHERE}.config",
                cure=_suggest(name, known, f"See {kind.__name__} in the documentation of transformers."),
            )


def _suggest(name: str, known: list[str], otherwise: str) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return f"Did you mean {near[0]!r}?" if near else otherwise


@torch.no_grad()
def _initialise(model: PreTrainedModel) -> None:
    """Give matrices a spread that keeps the size of what passes through them, whatever the width.

    The library's fixed spread of 0.02 suits widths of some thousands; narrow models begin too close to zero with it. Layers that
    add to the residual stream get less, so that its size does not grow with the number of layers (GPT-2's report, 2.3).
    """
    layers = model.config.get_text_config().num_hidden_layers
    heads = model.get_output_embeddings()
    for name, module in model.named_modules():
        transposed = type(module).__name__ == "Conv1D"
        if module is heads or not (isinstance(module, nn.Linear) or transposed):
            continue
        inputs = module.weight.shape[0 if transposed else 1]
        into_residual = name.rpartition(".")[2] in _INTO_RESIDUAL
        module.weight.normal_(std=INNER_GAIN / math.sqrt(inputs) / (math.sqrt(2 * layers) if into_residual else 1.0))
