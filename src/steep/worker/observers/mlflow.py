"""MLflow runs; the tracking server is set as MLflow's own documentation says (`MLFLOW_TRACKING_URI`)."""

from __future__ import annotations

import mlflow

from steep.spec.job import JobSpec
from steep.worker.observers.scalars import ScalarObserver


class Mlflow(ScalarObserver):
    """One MLflow run for each execution of the worker."""

    def __init__(self, spec: JobSpec) -> None:
        mlflow.set_experiment("steep")
        mlflow.start_run(run_name=spec.name, tags={"steep.tags": ",".join(spec.tags)})
        mlflow.log_dict(spec.model_dump(mode="json"), "job.json")

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Log the numbers at this step."""
        mlflow.log_metrics(scalars, step=step)
