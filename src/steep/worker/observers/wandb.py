"""Weights & Biases runs; offline where `WANDB_MODE=offline` says so."""

from __future__ import annotations

from pathlib import Path

import wandb

from steep.spec.job import JobSpec
from steep.worker.observers.scalars import ScalarObserver


class Wandb(ScalarObserver):
    """One W&B run for a run directory; an execution that resumes goes on in the same one."""

    def __init__(self, spec: JobSpec, directory: Path) -> None:
        self._run = wandb.init(
            project="steep",
            id=directory.name,
            name=spec.name,
            tags=list(spec.tags),
            config=spec.model_dump(mode="json"),
            dir=str(directory),
            resume="allow",
        )

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Log the numbers at this step."""
        self._run.log(scalars, step=step)
