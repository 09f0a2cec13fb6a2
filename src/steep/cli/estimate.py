"""What can be known of a job before any of it has run: facts for planning, from file headers and sizes alone."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steep.planning.facts import Device, Facts
from steep.spec.job import JobSpec
from steep.spec.units import format_bytes, format_tokens

BYTES_PER_TOKEN = 4.0  # English prose with a tokenizer that fits it
COMPRESSED_FACTOR = 3.5  # text grows about this much when it is unpacked
COMPRESSED = (".gz", ".zst", ".bz2", ".xz", ".zip", ".tgz", ".parquet")


def estimate_facts(spec: JobSpec) -> tuple[Facts | None, list[str]]:
    """Facts as far as they can be told without running anything, and a sentence on where each comes from.

    Returns nothing for the facts when the base or the corpus cannot be looked at from here.
    """
    shape, about_base = _base_shape(spec)
    size_bytes, about_corpus = _corpus_bytes(spec)
    device, memory_bytes = _device()
    notes = [about_base, about_corpus, f"machine: {device}, {format_bytes(memory_bytes)} of memory free"]
    if shape is None or not size_bytes:
        return None, notes
    train_bytes = round(size_bytes * (1 - spec.corpus.holdout))
    facts = Facts(
        **shape,
        train_tokens=max(1, round(train_bytes / BYTES_PER_TOKEN)),
        train_bytes=train_bytes,
        replay_available=spec.replay.share != 0,
        from_scratch=spec.base.from_scratch is not None,
        device=device,
        memory_bytes=memory_bytes,
    )
    return facts, notes


# ------------------------------------------------------------------------------------------------------ base model


def _base_shape(spec: JobSpec) -> tuple[dict[str, Any] | None, str]:
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


# ------------------------------------------------------------------------------------------------ corpus and machine


def _corpus_bytes(spec: JobSpec) -> tuple[int, str]:
    from steep.corpus.sources import list_files, name_sources
    from steep.spec.errors import InvalidCorpus

    total, num_files = 0.0, 0
    for name, source in name_sources(list(spec.corpus.sources)).items():
        try:
            files = list_files(name, source)
        except InvalidCorpus as error:
            return 0, f"corpus: {error}"
        num_files += len(files)
        total += sum(
            file.size_bytes * (COMPRESSED_FACTOR if file.path.lower().endswith(COMPRESSED) else 1) for file in files
        )
    return round(total), (
        f"corpus: {num_files} file(s), about {format_bytes(total)} of text taken as {BYTES_PER_TOKEN:g} bytes a token; "
        "cleaning and deduplication will leave less"
    )


def _device() -> tuple[Device, int]:
    import psutil

    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False)
        first = answer.stdout.split("\n")[0].strip()
        if answer.returncode == 0 and first.isdecimal():
            return "cuda", int(first) * 2**20
    return "cpu", int(psutil.virtual_memory().available)
