"""What a job would take, before anyone pays: from sizes of files and of the base alone, on the devices that there are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal

from steep.compute.contract import Device
from steep.corpus.sizes import estimated_bytes
from steep.planning.estimate import base_shape, estimated_facts
from steep.planning.facts import Device as Kind
from steep.planning.facts import Facts
from steep.planning.memory import estimate
from steep.planning.recipe import Recipe, derive
from steep.server.admission import resolve
from steep.server.service import Service
from steep.spec.api import Plan
from steep.spec.errors import SteepError
from steep.spec.job import JobSpec
from steep.spec.load import is_remote

log = logging.getLogger(__name__)


def plan_of(service: Service, spec: JobSpec) -> Plan:
    """The plan of a job that may be run.

    Args:
        service: where it would run.
        spec: admitted already.

    Raises:
        InvalidSpec: it asks for what its base or its corpus cannot give.
        InvalidInput: it does not fit in the memory of any device that it may get.
    """
    prices = service.settings.prices
    warnings = []
    local = resolve(spec, service)
    shape, about_base = base_shape(local)
    here = [source for source in local.corpus.sources if not is_remote(source.path)]
    size_bytes, about_corpus = estimated_bytes(here) if here else (0, "corpus: it lies elsewhere")
    if len(here) < len(local.corpus.sources):
        warnings.append("sources that lie elsewhere are not counted; they are looked at when the job runs")
    device = _fitting(service, spec)
    if device is None:
        warnings.append("no device here now is what the job asks for; it would wait for one")
    notes = (about_base, about_corpus, *warnings)
    if shape is None or not size_bytes or device is None:
        return Plan(currency=prices.currency, warnings=notes)
    kind: Kind = "cuda" if device.kind == "gpu" else "cpu"
    facts = estimated_facts(local, shape, size_bytes, kind, device.memory_bytes)
    recipe = derive(local, facts)
    seconds = recipe.time_budget_seconds
    gpus = [device.model] * (spec.service.gpu_count or 1) if device.kind == "gpu" else []
    return Plan(
        tokens=recipe.total_tokens,
        steps=recipe.total_steps,
        memory_bytes=_memory_bytes(facts, recipe),
        seconds=seconds,
        cost=None if seconds is None else seconds * prices.per_second(gpus),
        currency=prices.currency,
        decisions=tuple(one.model_dump() for one in recipe.decisions),
        warnings=notes,
    )


def _memory_bytes(facts: Facts, recipe: Recipe) -> int:
    precision: Literal["bf16", "fp32"] = "fp32"
    if recipe.precision == "bf16" or (recipe.precision == "auto" and facts.device == "cuda"):
        precision = "bf16"
    return estimate(
        facts,
        microbatch_tokens=recipe.microbatch_sequences * recipe.sequence_tokens,
        precision=precision,
        activation_checkpointing=recipe.activation_checkpointing,
        lora=recipe.lora,
        average=recipe.average_steps > 0,
        teacher=recipe.replay_distill > 0,
    ).total


def _fitting(service: Service, spec: JobSpec) -> Device | None:
    """The largest device that the job may get, or nothing."""
    devices = list(_devices(service))
    wanted = spec.service
    gpus = [one for one in devices if one.kind == "gpu" and (wanted.gpu or "").lower() in one.model.lower()]
    wants_gpu = bool(wanted.gpu_count) or wanted.gpu is not None or (wanted.gpu_count is None and bool(gpus))
    fitting = gpus if wants_gpu else [one for one in devices if one.kind == "cpu"]
    return max(fitting, key=lambda one: one.memory_bytes, default=None)


def _devices(service: Service) -> Iterator[Device]:
    for name, backend in service.backends.items():
        try:
            states = backend.capacity().devices
        except SteepError as error:
            log.warning("The devices of %s cannot be read now: %s", name, error)
            continue
        yield from (state.device for state in states)
