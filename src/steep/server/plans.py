"""What a job would take, before anyone pays: from sizes of files and of the base alone, on the devices that there are."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

from steep.compute.contract import Device
from steep.corpus.sizes import estimated_bytes
from steep.planning.estimate import base_shape, estimated_facts
from steep.planning.facts import Device as Kind
from steep.planning.facts import Facts
from steep.planning.memory import estimate
from steep.planning.pace import Pace, pace_of_gpus, training_seconds
from steep.planning.recipe import Recipe, derive
from steep.server.admission import resolve
from steep.server.limits import Prices
from steep.server.offers import offered_devices
from steep.server.service import Service
from steep.spec.api.jobs import Plan
from steep.spec.job import JobSpec
from steep.spec.load import is_remote
from steep.spec.units import format_seconds

_SAME_SPEED = ("method", "sequence_tokens", "precision", "activation_checkpointing")
"""Parts of `training` that make a difference to the speed."""


def plan_of(service: Service, spec: JobSpec) -> Plan:
    """The plan of a job that may be run.

    Args:
        service: where it would run.
        spec: admitted already.

    Raises:
        InvalidSpec: it asks for what its base or its corpus cannot give.
        InvalidInput: it does not fit in the memory of any device that it may get.
    """
    currency = service.settings.prices.currency
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
    if shape is None or not size_bytes or device is None:
        return Plan(currency=currency, notes=(about_base, about_corpus), warnings=tuple(warnings))
    kind: Kind = "cuda" if device.kind == "gpu" else "cpu"
    facts = estimated_facts(local, shape, size_bytes, kind, device.memory_bytes)
    gpus = [device.model] * (spec.service.gpu_count or 1) if device.kind == "gpu" else []
    recipe = derive(local, facts)
    pace = _measured(service, spec, device, max(len(gpus), 1)) or pace_of_gpus(facts, recipe, gpus)
    if pace is not None and not recipe.pace_is_measured:  # a budget in time: now it is known how many tokens that is
        facts = facts.model_copy(update={"tokens_per_second": pace.tokens_per_second})
        recipe = derive(local, facts)
    seconds, about_time = _time(recipe, pace, device)
    cost, about_cost = _cost(seconds, gpus, service.settings.prices)
    return Plan(
        tokens=recipe.total_tokens,
        steps=recipe.total_steps,
        memory_bytes=_memory_bytes(facts, recipe),
        seconds=seconds,
        cost=cost,
        currency=currency,
        decisions=(*(one.model_dump() for one in recipe.decisions), about_time, about_cost),
        notes=(about_base, about_corpus),
        warnings=tuple(warnings),
    )


def _measured(service: Service, spec: JobSpec, device: Device, num_devices: int) -> Pace | None:
    """How quick jobs with the same base were, that trained in the same way on as many such devices."""
    base = spec.base.model
    if base is None:
        return None
    models = {(one.backend, one.id): kind.model for kind, one in offered_devices(service.backends)}
    wanted, training = (
        [device.model] * num_devices,
        spec.model_dump(mode="json", exclude_defaults=True).get("training", {}),
    )
    like = [
        one
        for one in service.store.expectations.ran(base)
        if [models.get((one.backend, name)) for name in one.devices] == wanted
        and all(one.training.get(key) == training.get(key) for key in _SAME_SPEED)
    ]
    if not like:
        return None
    speed = statistics.median(one.tokens_per_second for one in like)
    by = like[0].job_id if len(like) == 1 else f"{len(like)} jobs, the last of them {like[0].job_id},"
    return Pace(speed, f"{speed:,.0f} tokens/s, which {by} made with this base on {num_devices} x {device.model}")


def _time(recipe: Recipe, pace: Pace | None, device: Device) -> tuple[float | None, dict[str, str]]:
    """How long training takes, and what that is based on."""
    if recipe.time_budget_seconds is not None:
        seconds: float | None = recipe.time_budget_seconds
        why = "as given"
    elif pace is not None:
        seconds = training_seconds(recipe, pace)
        why = f"{pace.basis}; preparing the text and the evaluation at the end come on top"
    else:
        seconds, why = None, f"no job with this base has shown yet how quick {device.model} is"
    return seconds, _told("seconds", None if seconds is None else format_seconds(seconds), why)


def _cost(seconds: float | None, gpus: Sequence[str], prices: Prices) -> tuple[float | None, dict[str, str]]:
    """What that costs, and what that is based on."""
    if not gpus:
        return 0.0, _told("cost", "nothing", "only GPUs have a price, and it would get none")
    price = prices.per_second(gpus)
    if price == 0:
        return None, _told(
            "cost", None, f"the server has no price for {gpus[0]}; its operator gives one with --gpu-price"
        )
    if seconds is None:
        return None, _told("cost", None, f"{price * 3600:.2f} {prices.currency} an hour, and the time is not known")
    amount = seconds * price
    return amount, _told(
        "cost",
        f"{amount:.2f} {prices.currency}",
        f"{price * 3600:.2f} {prices.currency} an hour for {len(gpus)} x {gpus[0]}",
    )


def _told(field: str, value: str | None, reason: str) -> dict[str, str]:
    return {"field": field, "value": value or "unknown", "reason": reason}


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
    devices = [device for device, _ in offered_devices(service.backends)]
    wanted = spec.service
    gpus = [one for one in devices if one.kind == "gpu" and (wanted.gpu or "").lower() in one.model.lower()]
    wants_gpu = bool(wanted.gpu_count) or wanted.gpu is not None or (wanted.gpu_count is None and bool(gpus))
    fitting = gpus if wants_gpu else [one for one in devices if one.kind == "cpu"]
    return max(fitting, key=lambda one: one.memory_bytes, default=None)
