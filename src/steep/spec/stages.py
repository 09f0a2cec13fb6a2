"""The stages of a job, in order."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """One part of a job: idempotent, with named resources, skipped when complete with the same inputs."""

    PREPARE = "prepare"
    ASSESS = "assess"
    TRAIN = "train"
    EVALUATE = "evaluate"
    SELECT = "select"
    EXPORT = "export"


ORDER: tuple[Stage, ...] = tuple(Stage)
NEEDS_MODEL = frozenset({Stage.ASSESS, Stage.TRAIN, Stage.EVALUATE, Stage.EXPORT})
