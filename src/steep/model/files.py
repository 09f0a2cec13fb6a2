"""The files of a model: found in a directory or on the hub, and looked at before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steep.artifacts.hub import find_directory
from steep.spec.errors import InvalidModel

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
_FROM_HUB = ("README.md", "*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja", "chat_template.json",
    "*.tiktoken",
)  # fmt: skip
_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.onnx")
_FETCH_AGAIN = "Fetch the model again; the file is not whole."


def find_model(model: str, *, with_code: bool = False) -> Path:
    """The directory of a model; one of the hub is downloaded, or found in the hub's cache.

    Args:
        model: a directory, or a hub id `org/name`, optionally `@revision`.
        with_code: fetch Python files too.

    Raises:
        InvalidModel: there is no such directory, and the hub gave none of that name.
    """
    patterns = [*_FROM_HUB, *(["*.py"] if with_code else [])]
    return find_directory(model, patterns, holds="config.json and model.safetensors")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model.

    Raises:
        InvalidModel: it is none.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidModel(
            f"cannot be read as JSON ({_first_line(error)})", where=str(path), cure=_FETCH_AGAIN
        ) from error
    if not isinstance(found, dict):
        raise InvalidModel("holds no JSON object", where=str(path), cure=_FETCH_AGAIN)
    return found


def find_tokenizer_directory(model: str) -> Path:
    """The directory of a model's tokenizer, by the model's directory or hub id; of its weights none are fetched.

    Raises:
        InvalidModel: as `find_model`.
    """
    return find_directory(model, ["config.json", *_TOKENIZER_FILES], holds="tokenizer.json")


def tokenizer_files(directory: Path) -> list[Path]:
    """The files of a model's tokenizer, and none of its weights or their index."""
    return sorted(path for pattern in _TOKENIZER_FILES for path in directory.glob(pattern))


def named_license(directory: Path) -> str | None:
    """The licence that a model's card names in its head, such as `apache-2.0`."""
    import yaml

    card = directory / "README.md"
    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2) if card.exists() else []
    if len(parts) < 3 or parts[0].strip():
        return None
    try:
        head = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return None  # a card that no program can read names no licence
    found = head.get("license") if isinstance(head, dict) else None
    return found if isinstance(found, str) else None


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model.

    Raises:
        InvalidModel: there are none, or one that the index names is missing.
    """
    index = directory / INDEX
    if index.exists():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
        missing = [name for name in names if not (directory / name).exists()]
        if missing or not names:
            what = (
                f"{len(missing)} of {len(names)} weight files are missing, such as {missing[0]}"
                if missing
                else "is empty"
            )
            raise InvalidModel(what, where=str(index), cure="Fetch the model again; not all of it is there.")
        return [directory / name for name in names]
    if (directory / WEIGHTS).exists():
        return [directory / WEIGHTS]
    raise _without_weights(directory)


def tensor_types(directory: Path) -> dict[str, str]:
    """The type of each stored tensor by its name, as safetensors call it (`BF16`, `F32`); reads only the files' heads.

    Raises:
        InvalidModel: a file is missing, or is not whole.
    """
    from safetensors import SafetensorError, safe_open

    types: dict[str, str] = {}
    for path in weight_files(directory):
        try:
            with safe_open(path, framework="pt") as tensors:
                types |= {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InvalidModel(
                f"is no whole safetensors file ({_first_line(error)})", where=str(path), cure=_FETCH_AGAIN
            ) from error
    return types


def _without_weights(directory: Path) -> InvalidModel:
    if (directory / "adapter_config.json").exists():
        return InvalidModel(
            "holds an adapter, not a model",
            where=str(directory),
            cure="Merge it into its base with peft's merge_and_unload, save that, and give its directory.",
        )
    others = sorted(path.name for pattern in _OTHER_WEIGHTS for path in directory.glob(pattern))
    if others:
        return InvalidModel(
            f"has its weights in {others[0]}; only safetensors are read, for other formats can run code or are quantised",
            where=str(directory),
            cure="Load it once with transformers in a safe place and save_pretrained it, which writes model.safetensors.",
        )
    return InvalidModel(
        "holds no weights", where=str(directory), cure="Give the directory that model.safetensors lies in."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
