"""What can be known of a base before any of it has run, from file headers alone; and facts for planning that rest on guesses."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steep.planning.facts import Device, Facts
from steep.spec.job import JobSpec
from steep.spec.units import format_tokens

BYTES_PER_TOKEN = 4.0  # English prose with a tokenizer that fits it


def estimated_facts(
    spec: JobSpec, shape: Mapping[str, Any], size_bytes: int, device: Device, memory_bytes: int
) -> Facts:
    """Facts as far as they can be told without running anything.

    Args:
        spec: of the job.
        shape: of its base, see `base_shape`.
        size_bytes: of the corpus, as text.
        device: that it would be trained on.
        memory_bytes: of that device.
    """
    train_bytes = round(size_bytes * (1 - spec.corpus.holdout))
    return Facts(
        **shape,
        train_tokens=max(1, round(train_bytes / BYTES_PER_TOKEN)),
        train_bytes=train_bytes,
        replay_available=spec.replay.share != 0,
        from_scratch=spec.base.from_scratch is not None,
        device=device,
        memory_bytes=memory_bytes,
    )


def base_shape(spec: JobSpec) -> tuple[dict[str, Any] | None, str]:
    """Sizes of the base, as `Facts` names them, and a sentence on where they come from; None when it cannot be looked at here."""
    scratch = spec.base.from_scratch
    if scratch is not None:
        shape = _shape(scratch.config | {"vocab_size": scratch.vocab_size}, None)
        return shape, "base: from scratch, size from its config" if shape else "base: its config does not say its size"
    assert spec.base.model is not None
    directory = _local(spec.base.model)
    if directory is None:
        return None, f"base: {spec.base.model} is not on this machine, so nothing can be derived from it yet"
    try:
        config = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError):
        return None, f"base: {directory} has no readable config.json"
    parameters = _count_parameters(directory)
    shape = _shape(config, parameters)
    if shape is None:
        return None, f"base: the config.json of {directory} does not say its size"
    counted = "counted in its files" if parameters else "estimated from its config"
    return shape, f"base: {format_tokens(shape['parameters'])} parameters, {counted}"


def _local(model: str) -> Path | None:
    """The base's directory: where the spec says, or in the hub's local cache."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    name, _, revision = model.partition("@")
    try:
        found = try_to_load_from_cache(name, "config.json", revision=revision or None)
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def _shape(config: Mapping[str, Any], parameters: int | None) -> dict[str, Any] | None:
    """Sizes from a Hugging Face config, whose names differ by family; None when they are not all there."""
    config = {**config, **(config.get("text_config") or {})}

    def first(*names: str) -> int | None:
        return next((int(config[name]) for name in names if isinstance(config.get(name), int)), None)

    hidden, layers, vocab = (
        first("hidden_size", "n_embd", "d_model"),
        first("num_hidden_layers", "n_layer"),
        first("vocab_size"),
    )
    if hidden is None or layers is None or vocab is None:
        return None
    wide = first("intermediate_size", "n_inner", "ffn_dim")
    if parameters is None:  # attention 4 h^2, a gated MLP 3 h w, embeddings and head
        tied = 1 if config.get("tie_word_embeddings") else 2
        parameters = layers * (4 * hidden * hidden + 3 * hidden * (wide or 4 * hidden)) + tied * vocab * hidden
    return {
        "parameters": parameters,
        "context_tokens": first("max_position_embeddings", "n_positions", "n_ctx") or 2048,
        "hidden_size": hidden,
        "num_layers": layers,
        "vocab_size": vocab,
        "intermediate_size": wide,
    }


def _count_parameters(directory: Path) -> int | None:
    """Numbers in the safetensors files, from their headers; None when there are none."""
    total = 0
    for file in directory.glob("*.safetensors"):
        with open(file, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > 100_000_000:
                return None
            try:
                header = json.loads(stream.read(length))
            except ValueError:
                return None
        total += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total or None
