"""Limits of a job: a pure function of what it has used. At 80 % it is warned, at 100 % it saves a checkpoint and is held.

Each is told once. What was told is remembered by its mark, in which the limit stands too: one that is raised counts anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from steep.spec.events import EventKind
from steep.spec.service import Limits
from steep.spec.units import format_seconds, format_tokens

WARN_AT = 0.8
HOUR_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Prices:
    """What GPUs cost.

    Args:
        per_gpu_hour: by a part of the model's name, such as `H100`; the longest part that fits holds.
        other_gpu_hour: of models that none fits.
        currency: of all prices and of the limits of cost.
    """

    per_gpu_hour: Mapping[str, float] = field(default_factory=dict)
    other_gpu_hour: float = 0.0
    currency: str = "USD"

    def per_second(self, models: Collection[str]) -> float:
        """What GPUs of these models cost together, a second."""
        return sum(self._per_hour(model) for model in models) / HOUR_SECONDS

    def _per_hour(self, model: str) -> float:
        fitting = [name for name in self.per_gpu_hour if name.lower() in model.lower()]
        return self.per_gpu_hour[max(fitting, key=len)] if fitting else self.other_gpu_hour


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job has used, all attempts together: money, seconds of work, tokens trained."""

    cost: float = 0.0
    time_seconds: float = 0.0
    tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Told:
    """Something to tell of a limit, once.

    Args:
        level: `warn`, or `stop`: save a checkpoint and be held.
        mark: names it; a Told whose mark was told is not made again.
        message: a sentence.
    """

    level: Literal["warn", "stop"]
    mark: str
    message: str

    @property
    def kind(self) -> EventKind:
        """The event that tells it."""
        return EventKind.LIMIT_REACHED if self.level == "stop" else EventKind.LIMIT_WARNED


def check(limits: Limits, usage: Usage, told: Collection[str] = (), currency: str = "USD") -> list[Told]:
    """What is to be told now, stops first. A limit that is reached at one leap is not warned of any more."""
    found = [each for each in _crossed(limits, usage, currency) if each.mark not in told]
    return sorted(found, key=lambda each: (each.level != "stop", each.mark))


def is_reached(limits: Limits, usage: Usage) -> bool:
    """Whether a job may not go on as its limits are, told or not."""
    return any(each.level == "stop" for each in _crossed(limits, usage, ""))


def _crossed(limits: Limits, usage: Usage, currency: str) -> Iterator[Told]:
    for name, limit, used, show in (
        ("cost", limits.cost, usage.cost, lambda value: f"{value:,.2f} {currency}"),
        ("time", limits.time, usage.time_seconds, format_seconds),
        ("tokens", limits.tokens, usage.tokens, lambda value: f"{format_tokens(value)} tokens"),
    ):
        if limit is None or used < WARN_AT * limit:
            continue
        level: Literal["warn", "stop"] = "stop" if used >= limit else "warn"
        share = f" ({used / limit:.0%})" if level == "warn" else ""
        has = "has reached its limit of" if level == "stop" else f"has used {show(used)} of its limit of"
        yield Told(level, f"{name}:{level}:{limit!r}", f"the job {has} {show(limit)}{share}")
