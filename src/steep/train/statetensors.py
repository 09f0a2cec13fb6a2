"""The state of training as named tensors, and the small rest of it as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from steep.artifacts.files import hash_text
from steep.spec.errors import DamagedArtifact, InvalidModel
from steep.train.tensorfile import TensorFiles

if TYPE_CHECKING:
    from steep.train.state import TrainingState

_OF_THE_SETUP = ("weight_decay", "betas")
_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Names, shapes and types of some tensors, hashed."""
    return hash_text(*(f"{name} {tuple(value.shape)} {value.dtype}" for name, value in sorted(tensors.items())))


def refuse_other_model(targets: Mapping[str, Tensor], files: TensorFiles, where: Path) -> None:
    """Raise `InvalidModel` when a weight of the model is not in the files, or has another shape there."""
    for name, target in targets.items():
        if name not in files.parts:
            what = f"the checkpoint has no weight {name}"
        elif files.shape(name) != target.shape:
            what = f"{name} is {tuple(files.shape(name))} in the checkpoint and {tuple(target.shape)} in the model"
        else:
            continue
        raise InvalidModel(what, where=str(where), cure="Use the base and the method it was trained with.")


def model_tensors(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Trainable weights and persistent buffers by name, each once; and further names of tied ones."""
    tensors: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    seen: dict[int, str] = {}
    prefix = _language_model_prefix(model)
    for raw, value in model.state_dict(keep_vars=True).items():
        name = _plain(raw, prefix)
        if isinstance(value, nn.Parameter) and not value.requires_grad:
            continue
        if id(value) in seen:
            tied[name] = seen[id(value)]
        else:
            seen[id(value)] = name
            tensors[name] = value.detach()
    return tensors, tied


def _language_model_prefix(model: nn.Module) -> str:
    """Where in the root that is trained the language model itself sits; names in a checkpoint are the latter's own."""
    for name, module in model.named_modules():
        if hasattr(module, "save_pretrained"):
            return f"{_unwrapped(name)}." if name else ""
    return ""


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = f"{name}.".replace(wrapper, "").removesuffix(".")
    return name


def _plain(name: str, prefix: str) -> str:
    return _unwrapped(name).removeprefix(prefix)


def _parameter_names(model: nn.Module) -> dict[str, str]:
    """Names in a checkpoint by names in the root that is trained."""
    prefix = _language_model_prefix(model)
    return {name: _plain(name, prefix) for name, _ in model.named_parameters()}


def _weight_names(model: nn.Module) -> dict[int, str]:
    names = _parameter_names(model)
    return {id(parameter): names[name] for name, parameter in model.named_parameters()}


def optimizer_tensors(state: TrainingState) -> Iterator[tuple[str, Tensor]]:
    """The optimizer's state, named after the weights it belongs to."""
    names = _weight_names(state.model)
    for parameter, values in state.optimizer.state.items():
        for key, value in values.items():
            yield f"optimizer.{names[id(parameter)]}.{key}", value


def optimizer_targets(state: TrainingState, files: TensorFiles) -> dict[str, Tensor]:
    """New optimizer state with the shapes in the files; tensors as large as their weight are laid out like it."""
    targets: dict[str, Tensor] = {}
    state.optimizer.state.clear()
    keys: dict[str, list[str]] = {}
    for stored in files.parts:
        if stored.startswith("optimizer."):
            weight, _, key = stored.removeprefix("optimizer.").rpartition(".")
            keys.setdefault(weight, []).append(key)
    names = _weight_names(state.model)
    for group in state.optimizer.param_groups:
        on_device = group.get("fused") or group.get("capturable")
        for parameter in group["params"]:
            name = names[id(parameter)]
            for key in keys.get(name, ()):
                stored = f"optimizer.{name}.{key}"
                if files.shape(stored) == parameter.shape:
                    target = torch.empty_like(parameter, dtype=files.dtype(stored), requires_grad=False)
                else:
                    device = parameter.device if on_device else torch.device("cpu")
                    target = torch.empty(files.shape(stored), dtype=files.dtype(stored), device=device)
                state.optimizer.state[parameter][key] = targets[stored] = target
    return targets


def average_tensors(state: TrainingState) -> dict[str, Tensor]:
    """The average of the weights, named after them; empty when there is none."""
    names = _parameter_names(state.model)
    return {f"average.{names[name]}": value for name, value in (state.average or {}).items()}


def average_targets(state: TrainingState, files: TensorFiles) -> dict[str, Tensor]:
    """A new average of the weights to be filled, when the files have one; else the state has none either."""
    stored = {name for name in files.parts if name.startswith("average.")}
    average = {}
    targets = {}
    parameters = dict(state.model.named_parameters())
    for name, plain in _parameter_names(state.model).items():
        if (full := f"average.{plain}") in stored:
            like = (state.average or parameters)[name]
            average[name] = torch.empty_like(like, dtype=files.dtype(full), requires_grad=False)
            targets[full] = average[name]
    state.average = average or None
    return targets


def training_record(state: TrainingState) -> dict[str, Any]:
    """All that is not a tensor: progress, and the settings of the optimizer's groups."""
    names = _weight_names(state.model)
    groups = []
    for group in state.optimizer.param_groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        settings = {key: value.item() if isinstance(value, Tensor) else value for key, value in settings.items()}
        groups.append({"weights": [names[id(parameter)] for parameter in group["params"]], "settings": settings})
    return {"progress": dataclasses.asdict(state.progress), "groups": groups}


def set_groups(state: TrainingState, records: Sequence[Mapping[str, Any]], where: Path) -> None:
    """Put the saved settings, such as the rate, back into the optimizer's groups; but what the setup decides, a branch may have
    changed."""
    names = _weight_names(state.model)
    groups = state.optimizer.param_groups
    if [[names[id(p)] for p in group["params"]] for group in groups] != [record["weights"] for record in records]:
        raise DamagedArtifact(
            "its optimizer groups the weights in another way",
            where=str(where),
            cure="Use the version of Steep that wrote it, or begin a new run from its export.",
        )
    for group, record in zip(groups, records, strict=True):
        for key, value in record["settings"].items():
            if key in _OF_THE_SETUP:
                continue
            current = group.get(key)
            if isinstance(current, Tensor):
                current.fill_(value)
            else:
                group[key] = tuple(value) if isinstance(current, tuple) else value


# --------------------------------------------------------------------------------------------------- random numbers


def rng_states(model: nn.Module) -> dict[str, Tensor]:
    """The states of torch's random number generators, of the CPU and of the model's device."""
    states = {"rng.cpu": torch.get_rng_state()}
    if (device := next(model.parameters()).device).type == "cuda":
        states["rng.cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_rng(model: nn.Module, states: Mapping[str, Tensor]) -> None:
    """Put random number generators back into these states."""
    torch.set_rng_state(states["rng.cpu"])
    if "rng.cuda" in states:
        torch.cuda.set_rng_state(states["rng.cuda"], next(model.parameters()).device)
