"""Which further observers a run has: those whose library is installed and whose use the environment asks for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from steep.artifacts.rundir import RunDirectory
from steep.spec.extras import install_extra
from steep.spec.job import JobSpec

if TYPE_CHECKING:
    from steep.train.observer import Observer


def observers_for(run: RunDirectory, spec: JobSpec) -> tuple[Observer, ...]:
    """TensorBoard, MLflow and W&B, as `STEEP_OBSERVERS=tensorboard,mlflow,wandb` asks.

    Raises:
        InvalidInput: an observer is unknown, or its library is not installed.
    """
    names = [name.strip() for name in os.environ.get("STEEP_OBSERVERS", "").split(",") if name.strip()]
    return tuple(_build(name, run, spec) for name in names)


def _build(name: str, run: RunDirectory, spec: JobSpec) -> Observer:
    from steep.spec.errors import InvalidInput

    try:
        if name == "tensorboard":
            from steep.worker.observers.tensorboard import TensorBoard

            return TensorBoard(run.path / "tensorboard")
        if name == "mlflow":
            from steep.worker.observers.mlflow import Mlflow

            return Mlflow(spec)
        if name == "wandb":
            from steep.worker.observers.wandb import Wandb

            return Wandb(spec, run.path)
    except ImportError as error:
        raise InvalidInput(
            f"the observer {name!r} needs a library that is not installed ({error.name})",
            where="STEEP_OBSERVERS",
            cure=install_extra(name),
        ) from error
    raise InvalidInput(
        f"there is no observer {name!r}", where="STEEP_OBSERVERS", cure="Choose among tensorboard, mlflow, wandb."
    )
