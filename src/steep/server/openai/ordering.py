"""From an order in OpenAI's words to a job spec.

model              base                      hyperparameters.n_epochs                    training.budget
training_file      corpus.sources.0          hyperparameters.batch_size                  training.global_batch_tokens
validation_file    evaluation.general.0      hyperparameters.learning_rate_multiplier    training.learning_rate
suffix             name                      method.continued_pretraining.X              X
metadata           tags                      seed                                        seed
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from steep.server.admission import UPLOADED
from steep.server.auth import Caller
from steep.server.openai.names import base_of
from steep.server.openai.rates import with_batch, with_rate
from steep.server.openai.shapes import METHOD, METHOD_FIELDS, ContinuedPretraining, Hyperparameters, JobOrder
from steep.server.routes.files import seen_file
from steep.server.service import Service
from steep.spec.api.files import FileView
from steep.spec.errors import InvalidInput, InvalidSpec, NotFound, SteepError
from steep.spec.job import JobSpec
from steep.spec.load import parse_spec

OTHERS = {"supervised": "supervised fine-tuning", "dpo": "preference tuning", "reinforcement": "reinforcement learning"}

_PARAMETERS = {
    "base": "model", "name": "suffix", "seed": "seed", "tags": "metadata",
    "corpus.sources.0": "training_file", "evaluation.general.0": "validation_file",
}  # fmt: skip


def spec_of(here: Service, caller: Caller, wanted: JobOrder, project: str | None) -> JobSpec:
    """The job spec of an order.

    Args:
        here: the service.
        caller: who orders.
        wanted: the order.
        project: whose job it is to be; None: the training file's.

    Raises:
        InvalidInput: something in the order is wrong; `where` names its parameter.
        Forbidden: the key does not open the project.
    """
    method = _method(wanted)
    training = _file(here, caller, wanted.training_file, "training_file")
    validation = (
        None if wanted.validation_file is None else _file(here, caller, wanted.validation_file, "validation_file")
    )
    values = _values(wanted, method, training, validation)
    values["service"].setdefault("project", caller.chosen(project or training.project))
    given = _hyperparameters(wanted, method)
    try:
        if given.n_epochs != "auto":
            _set_budget(values, f"{given.n_epochs} epochs")
        spec = parse_spec(values, where="method")
        if given.batch_size != "auto":
            spec = with_batch(here, caller, spec, given.batch_size)
        if given.learning_rate_multiplier != "auto":
            spec = with_rate(here, caller, spec, given.learning_rate_multiplier)
    except InvalidSpec as error:
        raise in_their_words(error) from error
    return spec


def in_their_words(error: SteepError) -> SteepError:
    """The same error, about the parameter that a field of the spec was made from."""
    field = error.where or ""
    for ours, theirs in _PARAMETERS.items():
        if field == ours or field.startswith(f"{ours}."):
            return type(error)(error.what, where=theirs, cure=error.cure)
    if field.partition(".")[0] in JobSpec.model_fields:
        return type(error)(error.what, where=f"method.{METHOD}.{field}", cure=error.cure)
    return error


# ----------------------------------------------------------------------------------------------------------- parameters


def _method(wanted: JobOrder) -> ContinuedPretraining:
    cure = f'Send method={{"type": "{METHOD}"}}.'
    if wanted.method is None:
        raise InvalidInput("says nothing of what is to be done with the model", where="method", cure=cure)
    if wanted.method.type in OTHERS:
        raise InvalidInput(
            f"Steep does continued pretraining, and no {OTHERS[wanted.method.type]}",
            where="method.type",
            cure=f"{cure} What it makes is a base model: download the export, and give it to your SFT tool afterwards.",
        )
    if wanted.method.type != METHOD:
        raise InvalidInput(f"there is no method {wanted.method.type!r}", where="method.type", cure=cure)
    unknown = next(iter(wanted.method.model_extra or ()), None)
    if unknown is not None:
        raise InvalidInput(f"there is no {unknown!r} of a method", where=f"method.{unknown}", cure=cure)
    if wanted.integrations:
        raise InvalidInput(
            "integrations are set up by the operator", where="integrations", cure="STEEP_OBSERVERS names them."
        )
    return wanted.method.continued_pretraining


def _hyperparameters(wanted: JobOrder, method: ContinuedPretraining) -> Hyperparameters:
    if wanted.hyperparameters is None:
        return method.hyperparameters
    if method.hyperparameters != Hyperparameters():
        raise InvalidInput(
            "are given twice", where="hyperparameters", cure=f"Leave those in method.{METHOD}.hyperparameters alone."
        )
    return wanted.hyperparameters


def _file(here: Service, caller: Caller, file: str, parameter: str) -> FileView:
    try:
        return seen_file(here, caller, file)
    except NotFound as error:
        raise InvalidInput(f"there is no file {file}", where=parameter, cure="POST /v1/files uploads one.") from error


def _values(
    wanted: JobOrder, method: ContinuedPretraining, training: FileView, validation: FileView | None
) -> dict[str, Any]:
    """Plain values of the spec, as a job file would hold them."""
    values: dict[str, Any] = {name: getattr(method, name) for name in METHOD_FIELDS}
    values = {
        name: dict(value) if isinstance(value, dict) else value for name, value in values.items() if value is not None
    }
    _first(values["corpus"], "sources", training)
    if validation is not None:
        _first(values["evaluation"], "general", validation)
    if method.budget is not None:
        amount, unit = method.budget
        _set_budget(values, f"{amount:.15g} {'s' if unit == 'seconds' else unit}")
    values["base"] = base_of(wanted.model)
    values["name"] = wanted.suffix or _name(training.name)
    values["tags"] = [f"{key}={value}" for key, value in (wanted.metadata or {}).items()]
    if wanted.seed is not None:
        values["seed"] = wanted.seed
    return values


def _first(part: dict[str, Any], key: str, file: FileView) -> None:
    """Make a file the first of some sources, unless it is one of them already, such as for a field's name."""
    path, others = UPLOADED + file.id, part.get(key) or []
    if not isinstance(others, list):
        return  # what it is instead is told with everything else that is wrong
    named = [one.get("path") if isinstance(one, dict) else one for one in others]
    if path in named:
        others = [others[named.index(path)], *(one for one, name in zip(others, named, strict=True) if name != path)]
        part[key] = others
    else:
        part[key] = [{"path": path, "name": file.name}, *others]


def _set_budget(values: dict[str, Any], budget: str) -> None:
    if "budget" in values["training"]:
        raise InvalidInput(
            "says how long to train, and so does something else",
            where=f"method.{METHOD}.training.budget",
            cure="Give one of n_epochs, budget and training.budget.",
        )
    values["training"]["budget"] = budget


def _name(filename: str) -> str:
    """A name for the job, made of the file's."""
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePath(filename).stem).strip("-._")
    return words[:64] or "job"
