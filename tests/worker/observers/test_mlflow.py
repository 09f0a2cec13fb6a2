"""MLflow runs in a store of local files."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.worker.conftest import MakeContext, step_report

from steep.worker.observers.build import observers_for


def test_numbers_come_back_from_the_tracking_store(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    context = make_context(tags=["docs"])
    monkeypatch.setenv("STEEP_OBSERVERS", "mlflow")
    (observer,) = observers_for(context.run, context.spec)
    run_id = mlflow.active_run().info.run_id
    try:
        for step in (1, 2):
            observer.step(step_report(step, loss=4.0 / step))
    finally:
        mlflow.end_run()
    history = mlflow.MlflowClient().get_metric_history(run_id, "train/loss")
    assert [(one.step, one.value) for one in history] == [(1, 4.0), (2, 2.0)]
    assert mlflow.get_run(run_id).data.tags["steep.tags"] == "docs"
