"""Event files that TensorBoard itself reads back."""

from __future__ import annotations

import pytest
from tests.worker.conftest import MakeContext, step_report

from steep.spec.reports import EvaluationReport
from steep.worker.observers.build import observers_for


def test_numbers_come_back_from_the_event_file(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    context = make_context()
    monkeypatch.setenv("STEEP_OBSERVERS", "tensorboard")
    (observer,) = observers_for(context.run, context.spec)
    for step in (1, 2, 3):
        observer.step(step_report(step, loss=4.0 / step))
    observer.evaluation(EvaluationReport(step=3, tokens_seen=1, domain_bpb={"docs": 1.5}, general_bpb={"self": 1.25}))
    events = accumulators.EventAccumulator(str(context.run.path / "tensorboard"))
    events.Reload()
    assert [(one.step, round(one.value, 3)) for one in events.Scalars("train/loss")] == [(1, 4.0), (2, 2.0), (3, 1.333)]
    assert [(one.step, one.value) for one in events.Scalars("domain/docs")] == [(3, 1.5)]
    assert [(one.step, one.value) for one in events.Scalars("general/self")] == [(3, 1.25)]
