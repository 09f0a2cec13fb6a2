"""What changed between two versions of a job spec, and which stages that makes run again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from steep.spec.job import JobSpec
from steep.spec.stages import ORDER, Stage

# The first stage whose inputs hold a part of the spec; the longest prefix counts. What is not here changes no result.
FIRST_STAGE = {
    "base": Stage.PREPARE,
    "corpus": Stage.PREPARE,
    "replay": Stage.PREPARE,
    "replay.share": Stage.ASSESS,
    "training": Stage.ASSESS,
    "checkpoints.every": Stage.ASSESS,
    "checkpoints.keep_last": Stage.ASSESS,
    "checkpoints.keep_best": Stage.ASSESS,
    "seed": Stage.ASSESS,
    "evaluation.general": Stage.PREPARE,
    "evaluation.max_tokens": Stage.PREPARE,
    "evaluation.every": Stage.ASSESS,
    "evaluation.tasks": Stage.PREPARE,
    "evaluation.task_limit": Stage.EVALUATE,
    "evaluation.interpolate": Stage.EVALUATE,
    "evaluation.forgetting_budget": Stage.SELECT,
    "name": Stage.SELECT,
    "evaluation.prompts": Stage.EXPORT,
}


@dataclass(frozen=True, slots=True)
class Change:
    """A field that differs; values as the job file writes them."""

    field: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.field}: {_short(self.old)} -> {_short(self.new)}"


def changes(old: JobSpec, new: JobSpec) -> list[Change]:
    """All fields in which two specs differ."""
    return list(_differ("", old.model_dump(mode="json"), new.model_dump(mode="json")))


def stages_again(changed: list[Change]) -> tuple[Stage, ...]:
    """The stages whose inputs these changes reach. One may still be skipped when its inputs come out the same."""
    first = [stage for change in changed if (stage := _first_stage(change.field)) is not None]
    return ORDER[min(ORDER.index(stage) for stage in first) :] if first else ()


def _first_stage(field: str) -> Stage | None:
    parts = field.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in FIRST_STAGE:
            return FIRST_STAGE[prefix]
    return None


def _differ(prefix: str, old: Any, new: Any) -> list[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[Change] = []
        for key in dict.fromkeys([*old, *new]):
            found += _differ(f"{prefix}.{key}" if prefix else key, old.get(key), new.get(key))
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            change for i, (a, b) in enumerate(zip(old, new, strict=True)) for change in _differ(f"{prefix}.{i}", a, b)
        ]
    return [] if old == new else [Change(prefix, old, new)]


def _short(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
