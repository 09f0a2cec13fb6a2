"""A model as a directory that any program reads: Hugging Face's layout, whole or absent, and proven by reading it back."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from steep.artifacts.files import full_disk_stops, sync_directory
from steep.artifacts.tokens import TokenDataset
from steep.model.files import find_model, read_json, tokenizer_files
from steep.model.load import stored_dtype
from steep.model.loss import head_of
from steep.model.quiet import quiet
from steep.model.score import context_tokens, score_dataset
from steep.spec.errors import DamagedArtifact, InvalidInput

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_SHARD_SIZE = "4GB"
TOLERANCE = 1e-3
"""Bits per byte by which a model and its export, in the same number format, may differ. On a CPU they agree to some 1e-6; on a
GPU two attention kernels in bf16 differ by some 1e-4. A weight that is wrong or missing costs a tenth and more."""

_DTYPES = {
    "bf16": torch.bfloat16, "bfloat16": torch.bfloat16, "fp16": torch.float16, "float16": torch.float16,
    "fp32": torch.float32, "float32": torch.float32,
}  # fmt: skip


def write_export(
    model: PreTrainedModel,
    tokenizer_dir: str,
    out: Path,
    *,
    dtype: str | None = None,
    card: str = "",
    attachments: Mapping[str, Path] | None = None,
) -> None:
    """Write a model to `out`, where it appears whole or not at all; an export that stood there is replaced.

    Args:
        model: with weights of any type; it is left as it is.
        tokenizer_dir: directory or hub id whose tokenizer's files are copied, byte for byte.
        out: the directory to make.
        dtype: of the stored weights, `bf16`, `fp16` or `fp32`; by default what the base is stored in.
        card: Markdown of the model card.
        attachments: further files by their names in the export, such as charts.

    Raises:
        InvalidInput: something else than an export stands at `out`, or there is no such type.
        OutOfSpace: the disk is full; nothing is left of the export.
    """
    chosen = _chosen_dtype(model, dtype)
    _refuse_other_content(out)
    staging = out.with_name(f".{out.name}.tmp")
    with full_disk_stops(out):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            _write_weights(model, chosen, staging)
            _write_config(model, chosen, staging)
            _copy_beside(model, find_model(tokenizer_dir), staging)
            (staging / "README.md").write_text(card, encoding="utf-8")
            for name, path in (attachments or {}).items():
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, staging / name)
            _sync(staging)
            _put_in_place(staging, out)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def verify_export(out: Path, dataset: TokenDataset, *, model: PreTrainedModel, max_tokens: int) -> float:
    """Read an export back with nothing but the library, and score it beside the model that it was made from.

    Args:
        out: the export.
        dataset: text to score both on.
        model: what was exported; its weights are rounded to the stored type while it is scored, and then restored.
        max_tokens: tokens scored at most.

    Returns:
        Bits per byte of the export.

    Raises:
        DamagedArtifact: it does not load, or does not score as the model does.
    """
    context = context_tokens(model)
    with _rounded(model, stored_dtype(out)):
        wanted = score_dataset(model, dataset, max_tokens=max_tokens, context=context).bpb
    again = _reload(out).to(model.device)
    _require_plain_head(again, out)
    found = score_dataset(again, dataset, max_tokens=max_tokens, context=context).bpb
    if not abs(found - wanted) <= TOLERANCE:
        raise DamagedArtifact(
            f"read back, it scores {found:.4f} bits per byte where the model scores {wanted:.4f}",
            where=str(out),
            cure="Export it again; if that does not help, the family is not supported by this version of transformers.",
        )
    return found


# ------------------------------------------------------------------------------------------------------------- writing


def _chosen_dtype(model: PreTrainedModel, dtype: str | None) -> torch.dtype:
    if dtype is None:
        base = Path(model.name_or_path) if model.name_or_path else None
        return stored_dtype(base) if base is not None and (base / "config.json").exists() else model.dtype
    if dtype not in _DTYPES:
        raise InvalidInput(f"there is no type {dtype!r}", where="dtype", cure="Choose bf16, fp16 or fp32.")
    return _DTYPES[dtype]


def _refuse_other_content(out: Path) -> None:
    """What stands at `out` is replaced only if it is an export."""
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / "config.json").exists()):
        raise InvalidInput("holds something that is no export", where=str(out), cure="Give a new directory.")


def _write_weights(model: PreTrainedModel, dtype: torch.dtype, out: Path) -> None:
    """Safetensors in shards, a config and a generation config, as the library writes them."""
    from transformers import GenerationConfig

    generation, model.generation_config = model.generation_config, GenerationConfig()  # saving refuses some bases' own
    try:
        with quiet():
            model.save_pretrained(out, state_dict=_in_type(model.state_dict(), dtype), max_shard_size=MAX_SHARD_SIZE)
    finally:
        model.generation_config = generation


def _in_type(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights in another type, those that share memory sharing it still; what is no float stays."""
    known: dict[tuple[int, torch.Size], Tensor] = {}
    converted = {}
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tensor.shape)
        if key not in known:
            known[key] = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None)
        converted[name] = known[key]
    return converted


def _write_config(model: PreTrainedModel, dtype: torch.dtype, out: Path) -> None:
    """The base's own config where it has one, so that whatever reads the base reads the export; the type is ours."""
    base = Path(model.name_or_path or "") / "config.json"
    config = read_json(base if model.name_or_path and base.exists() else out / "config.json")
    config.pop("_name_or_path", None)
    name = str(dtype).removeprefix("torch.")
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            old = "torch_dtype" if "torch_dtype" in part else "dtype"
            part[old] = name
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _copy_beside(model: PreTrainedModel, tokenizer: Path, out: Path) -> None:
    """The tokenizer's files, the base's generation config, and its code where it has some."""
    for path in tokenizer_files(tokenizer):
        shutil.copyfile(path, out / path.name)
    base = Path(model.name_or_path) if model.name_or_path else tokenizer
    if (base / "generation_config.json").exists():
        shutil.copyfile(base / "generation_config.json", out / "generation_config.json")
    elif model.generation_config is not None:
        (out / "generation_config.json").write_text(model.generation_config.to_json_string(), encoding="utf-8")
    if "auto_map" in read_json(out / "config.json"):
        for path in base.glob("*.py"):
            shutil.copyfile(path, out / path.name)


def _sync(directory: Path) -> None:
    """Make a directory and all that is in it durable, and readable for whom new files are: safetensors makes private ones."""
    mode = (directory / "README.md").stat().st_mode
    for path in sorted(directory.rglob("*")):
        if path.is_dir():
            sync_directory(path)
        else:
            path.chmod(mode)
            with open(path, "rb+") as stream:
                os.fsync(stream.fileno())
    sync_directory(directory)


def _put_in_place(staging: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    staging.rename(out)
    sync_directory(out.parent)
    shutil.rmtree(old, ignore_errors=True)


# ------------------------------------------------------------------------------------------------------------- reading


@contextmanager
def _rounded(model: PreTrainedModel, dtype: torch.dtype) -> Iterator[None]:
    """The model with its weights rounded to a type for a while."""
    weights = [weight for weight in model.state_dict().values() if weight.is_floating_point()]
    kept = [weight.clone() for weight in weights]
    try:
        for weight, exact in zip(weights, kept, strict=True):
            weight.copy_(exact.to(dtype))
        yield
    finally:
        for weight, exact in zip(weights, kept, strict=True):
            weight.copy_(exact)


def _reload(out: Path) -> PreTrainedModel:
    """The export as anyone loads it, with fp32 weights."""
    from transformers import AutoModelForCausalLM

    trusted = "auto_map" in read_json(out / "config.json")  # its code ran already when the base was loaded
    options: dict[str, Any] = {"dtype": torch.float32, "trust_remote_code": trusted, "local_files_only": True}
    try:
        with quiet():
            model, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True, **options)
    except Exception as error:  # each family fails in its own way
        raise DamagedArtifact(f"does not load ({error})", where=str(out), cure="Export it again.") from error
    wrong = sorted(str(name) for names in info.values() for name in names)
    if wrong:
        raise DamagedArtifact(
            f"{len(wrong)} weights are missing or have no place, such as {wrong[0]}",
            where=str(out),
            cure="Export it again.",
        )
    return model


@torch.no_grad()
def _require_plain_head(model: PreTrainedModel, out: Path) -> None:
    """Scores come from the last hidden states and the head; the logits that users get must be the same."""
    ids = torch.arange(8, device=model.device)[None]
    theirs = model(input_ids=ids, use_cache=False).logits[0]
    ours = head_of(model).logits(model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0])
    if not math.isclose(float((ours - theirs).abs().max()), 0.0, abs_tol=1e-3 * float(theirs.abs().max()) + 1e-6):
        raise DamagedArtifact("its logits are not those of its head", where=str(out), cure="Export it again.")
