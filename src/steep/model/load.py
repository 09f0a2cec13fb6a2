"""A base model from its files: all of its weights or an error, never a weight that was made up.

What is refused here would otherwise train, and give a model that is worse in silence: weights that are missing and therefore
random, quantised ones, families whose documents cannot be kept apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from steep.model.attention import register
from steep.model.files import find_model, read_json, tensor_types
from steep.model.probe import require_supported
from steep.model.quiet import quiet
from steep.spec.errors import InvalidModel

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_ANOTHER = "Choose another base."
_TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float32}


def load_model(model: str, *, trust_remote_code: bool = False, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A causal language model whose attention is ours, in evaluation mode, on the CPU.

    Args:
        model: a directory, or a hub id `org/name`, optionally `@revision`.
        trust_remote_code: run code that comes with the model.
        dtype: of the weights in memory, whatever they are stored in.

    Raises:
        InvalidModel: it is not there, not whole, not a causal language model, quantised, or of a family that is not
            supported; or its tokenizer has ids that it has no embedding for.
    """
    directory = find_model(model, with_code=trust_remote_code)
    config = _config(directory, trust_remote_code=trust_remote_code)
    tensor_types(directory)
    loaded = _weights(directory, config, dtype, trust_remote_code=trust_remote_code)
    _require_finite(loaded, directory)
    _require_room_for_ids(loaded, directory)
    require_supported(loaded, str(directory))
    return loaded


def stored_dtype(directory: Path) -> torch.dtype:
    """The type that a model's weights are stored in: as its config says, else that of most of its tensors.

    Raises:
        InvalidModel: the model is not there or not whole.
    """
    config = read_json(directory / "config.json")
    config = {**(config.get("text_config") or {}), **config}
    named = str(config.get("dtype") or config.get("torch_dtype") or "").removeprefix("torch.")
    by_name = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if named in by_name:
        return by_name[named]
    types = list(tensor_types(directory).values())
    return _TYPES.get(max(set(types), key=types.count), torch.float32)


def _config(directory: Path, *, trust_remote_code: bool) -> PretrainedConfig:
    """The model's config, if it is one of a causal language model that can be trained."""
    from transformers import AutoConfig

    path = directory / "config.json"
    if not path.exists() and (directory / "adapter_config.json").exists():
        tensor_types(directory)  # says that it is an adapter
    if not path.exists():
        raise InvalidModel(
            "has no config.json", where=str(directory), cure="Give the directory of a Hugging Face model."
        )
    values = read_json(path)
    _refuse_quantised(values, directory)
    remote = "AutoModelForCausalLM" in values.get("auto_map", {})
    if not remote:
        _require_causal(values, path)
    elif not trust_remote_code:
        _require_known(values, path)
    try:
        with quiet():
            return AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code and remote)
    except Exception as error:  # each family checks its own values in its own way
        raise InvalidModel(f"is no config that can be read ({error})", where=str(path), cure=_ANOTHER) from error


def _refuse_quantised(values: dict[str, Any], directory: Path) -> None:
    quantised = values.get("quantization_config") or (values.get("text_config") or {}).get("quantization_config")
    if quantised:
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else "unknown"
        raise InvalidModel(
            f"is quantised (method {method}), and such weights cannot be trained",
            where=str(directory),
            cure="Give the model that it was made from, with weights of 16 or 32 bits.",
        )


def _require_causal(values: dict[str, Any], path: Path) -> None:
    """Refuse architectures that the library does not know, and those that are no causal language models."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    family = values.get("model_type")
    if family is None:
        raise InvalidModel("names no model_type", where=str(path), cure="Give the directory of a Hugging Face model.")
    if family not in CONFIG_MAPPING_NAMES:
        import transformers

        raise InvalidModel(
            f"its architecture {family!r} is unknown to transformers {transformers.__version__}",
            where=str(path),
            cure="Upgrade transformers, or choose another base.",
        )
    named = values.get("architectures") or []
    if family not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or any(_other_purpose(name) for name in named):
        raise InvalidModel(
            f"{named[0] if named else family} is no causal language model",
            where=str(path),
            cure="Choose a base that predicts the next token (`...ForCausalLM`).",
        )


def _other_purpose(architecture: str) -> bool:
    """Whether a class of that name has another head, or reads text in both directions."""
    heads = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM")
    return architecture.endswith((*heads, "ForMultipleChoice", "ForPreTraining"))


def _require_known(values: dict[str, Any], path: Path) -> None:
    """A model that brings its own code is taken without it only where the library has the family itself."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if values.get("model_type") not in CONFIG_MAPPING_NAMES:
        raise InvalidModel(
            "needs code that comes with it, and that is not run",
            where=str(path),
            cure="Read that code; if you trust it, set base.trust_remote_code: true.",
        )
    _require_causal(values, path)


def _weights(
    directory: Path, config: PretrainedConfig, dtype: torch.dtype, *, trust_remote_code: bool
) -> PreTrainedModel:
    """The model with every weight from the files."""
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            model, info = AutoModelForCausalLM.from_pretrained(
                directory,
                config=config,
                dtype=dtype,
                attn_implementation=register(),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:  # each family fails in its own way
        raise InvalidModel(f"does not load ({error})", where=str(directory), cure=_ANOTHER) from error
    _refuse_incomplete(info, directory)
    if model.config._attn_implementation != register():
        raise InvalidModel(
            f"{type(model).__name__} does not take other attention functions, so documents cannot be kept apart",
            where=str(directory),
            cure=_ANOTHER,
        )
    return model


def _refuse_incomplete(info: dict[str, Any], directory: Path) -> None:
    """Refuse a checkpoint from which a weight would be random, or left out."""
    mismatched = sorted(info["mismatched_keys"])
    if mismatched:
        name, stored, wanted = mismatched[0]
        raise InvalidModel(
            f"{len(mismatched)} weights do not have the shape that config.json gives them, such as {name}: "
            f"{list(stored)} is stored, {list(wanted)} is wanted",
            where=str(directory),
            cure="Give the config.json that belongs to these weights.",
        )
    for kind, what in (
        ("missing_keys", "weights of the architecture are not stored"),
        ("unexpected_keys", "stored weights have no place in the architecture"),
        ("error_msgs", "weights could not be read"),
    ):
        names = sorted(info[kind])
        if names:
            raise InvalidModel(
                f"{len(names)} {what}, such as {names[0]}",
                where=str(directory),
                cure="Give the config.json that belongs to these weights, or fetch the model again.",
            )


def _require_finite(model: PreTrainedModel, directory: Path) -> None:
    for name, weight in model.named_parameters():
        if not _is_finite(weight):
            raise InvalidModel(
                f"{name} holds values that are not finite", where=str(directory), cure="Fetch the model again."
            )


def _is_finite(weight: torch.Tensor) -> bool:
    """Whether every value is. A sum tells in a tenth of the time; where it overflows though no value does, each is looked at."""
    total = weight.detach().sum(dtype=torch.float32)
    return bool(torch.isfinite(total)) or bool(torch.isfinite(weight).all())


def _require_room_for_ids(model: PreTrainedModel, directory: Path) -> None:
    """Refuse a tokenizer beside the model that gives ids for which the model has no embedding."""
    path = directory / "tokenizer.json"
    if not path.exists():
        return
    rows = model.get_input_embeddings().weight.shape[0]
    ids = _largest_id(read_json(path)) + 1
    if ids > rows:
        raise InvalidModel(
            f"its tokenizer has {ids} ids but its embedding only {rows} rows",
            where=str(directory),
            cure="Use the tokenizer that the model was trained with.",
        )


def _largest_id(tokenizer: dict[str, Any]) -> int:
    """The largest id in a `tokenizer.json`; -1 where it has none."""
    vocabulary = (tokenizer.get("model") or {}).get("vocab") or {}
    ids = vocabulary.values() if isinstance(vocabulary, dict) else (len(vocabulary) - 1,)
    added = (token["id"] for token in tokenizer.get("added_tokens") or ())
    return max((*ids, *added), default=-1)
