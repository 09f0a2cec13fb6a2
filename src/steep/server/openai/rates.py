"""Hyperparameters that OpenAI counts in other units: a batch in sequences, a learning rate in multiples of the usual one."""

from __future__ import annotations

from steep.corpus.sizes import estimated_bytes
from steep.planning.estimate import base_shape, estimated_facts
from steep.planning.recipe import Recipe, derive
from steep.server.admission import admit, resolve
from steep.server.auth import Caller
from steep.server.openai.shapes import METHOD
from steep.server.service import Service
from steep.spec.errors import InvalidInput
from steep.spec.job import JobSpec
from steep.spec.load import is_remote

_ROOMY_BYTES = 1 << 50  # the rate and the length do not depend on memory


def with_batch(here: Service, caller: Caller, spec: JobSpec, sequences: int) -> JobSpec:
    """The spec with steps of some sequences.

    Raises:
        InvalidInput: it says how large steps are itself, or nothing is known of the base yet.
        InvalidSpec: it names what it may not have.
        Forbidden: the key does not open its project.
    """
    _require_unset(spec.training.global_batch_tokens is None, "global_batch_tokens", "batch_size")
    length = spec.training.sequence_tokens or _recipe(here, caller, spec, "batch_size").sequence_tokens
    return _changed(spec, sequence_tokens=length, global_batch_tokens=length * sequences)


def with_rate(here: Service, caller: Caller, spec: JobSpec, multiplier: float) -> JobSpec:
    """The spec with a multiple of the rate that would be derived for it.

    Raises:
        InvalidInput: it says the rate itself, or nothing is known of the base yet.
        InvalidSpec: it names what it may not have.
        Forbidden: the key does not open its project.
    """
    _require_unset(spec.training.learning_rate is None, "learning_rate", "learning_rate_multiplier")
    if multiplier == 1:
        return spec
    rate = _recipe(here, caller, spec, "learning_rate_multiplier").peak_rate * multiplier
    return _changed(spec, learning_rate=float(f"{rate:.3g}"))


def _recipe(here: Service, caller: Caller, spec: JobSpec, parameter: str) -> Recipe:
    local = resolve(admit(spec, caller, here), here)  # before anything that it names is looked at
    shape, about = base_shape(local)
    sources = [source for source in local.corpus.sources if not is_remote(source.path)]
    size_bytes, _ = estimated_bytes(sources)
    if shape is None:
        raise InvalidInput(
            f"cannot be told beforehand ({about})",
            where=f"hyperparameters.{parameter}",
            cure=f"Leave it at `auto`, or give learning_rate or global_batch_tokens in method.{METHOD}.training.",
        )
    return derive(local, estimated_facts(local, shape, size_bytes, "cuda", _ROOMY_BYTES))


def _changed(spec: JobSpec, **values: float) -> JobSpec:
    return spec.model_copy(update={"training": spec.training.model_copy(update=values)})


def _require_unset(is_unset: bool, field: str, parameter: str) -> None:
    if not is_unset:
        raise InvalidInput(
            f"is given beside training.{field}", where=f"hyperparameters.{parameter}", cure="Give one of them."
        )
