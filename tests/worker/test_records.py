"""Measurements of a run's models: comparable ones come back, others are passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from steep.evaluate.compare import Measurement
from steep.spec.reports import EvaluationReport
from steep.worker.records import Records, RecordsEvaluations


def measured(bpb: float, tasks: dict[str, dict[str, float]] | None = None) -> Measurement:
    return Measurement(
        domain={"docs": bpb},
        general={"self": 1.0},
        domain_bytes={"docs": 1000},
        general_bytes={"self": 2000},
        tasks=tasks or {},
    )


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "evaluation", lineage="this training", holdouts="this text")


def test_a_run_that_measured_nothing(records: Records) -> None:
    assert (records.read(), records.base()) == ([], None)


def test_records_come_back_base_first_then_by_kind_and_step(records: Records) -> None:
    records.write("interpolation", measured(1.1), step=200, tokens_seen=2, alpha=0.85)
    records.write("interpolation", measured(1.2), step=200, tokens_seen=2, alpha=0.5)
    records.write("average", measured(1.3), step=200, tokens_seen=2)
    records.write("checkpoint", measured(1.4), step=200, tokens_seen=2)
    records.write("checkpoint", measured(1.5), step=100, tokens_seen=1)
    records.write("base", measured(1.6))
    assert [(one.kind, one.step, one.alpha) for one in records.read()] == [
        ("base", 0, None),
        ("checkpoint", 100, None),
        ("checkpoint", 200, None),
        ("average", 200, None),
        ("interpolation", 200, 0.5),
        ("interpolation", 200, 0.85),
    ]
    base = records.base()
    assert base is not None
    assert base.measured == measured(1.6)
    assert sorted(path.name for path in records.directory.iterdir()) == [
        "average-00000200.json",
        "base.json",
        "checkpoint-00000100.json",
        "checkpoint-00000200.json",
        "interpolation-00000200-alpha-0.5.json",
        "interpolation-00000200-alpha-0.85.json",
    ]


def test_a_model_measured_again_has_its_newer_numbers(records: Records) -> None:
    records.write("checkpoint", measured(1.5), step=100, tokens_seen=1)
    records.write("checkpoint", measured(1.4, {"quiz": {"accuracy": 0.5}}), step=100, tokens_seen=1)
    (record,) = records.read()
    assert record.measured == measured(1.4, {"quiz": {"accuracy": 0.5}})


def test_numbers_of_another_training_are_passed_over_but_the_base_is_the_same(records: Records) -> None:
    records.write("base", measured(1.6))
    records.write("checkpoint", measured(1.5), step=100, tokens_seen=1)
    other = Records(records.directory, lineage="another training", holdouts="this text")
    assert [one.kind for one in other.read()] == ["base"]
    other.write("checkpoint", measured(1.2), step=200, tokens_seen=2)
    assert [one.step for one in records.read()] == [0, 100]


def test_numbers_on_other_text_are_passed_over_even_of_the_base(records: Records) -> None:
    records.write("base", measured(1.6))
    records.write("checkpoint", measured(1.5), step=100, tokens_seen=1)
    other = Records(records.directory, lineage="this training", holdouts="other text")
    assert (other.read(), other.base()) == ([], None)


@pytest.mark.parametrize("content", ["", "{", '{"kind": "checkpoint"}', "[1]"])
def test_what_is_no_record_is_measured_anew(records: Records, content: str) -> None:
    records.write("base", measured(1.6))
    (records.directory / "checkpoint-00000100.json").write_text(content)
    assert [one.kind for one in records.read()] == ["base"]


def test_evaluations_made_in_training_become_records(records: Records) -> None:
    observer = RecordsEvaluations(records, measured(1.6, {"quiz": {"accuracy": 0.5}}))
    observer.evaluation(EvaluationReport(step=100, tokens_seen=7, domain_bpb={"docs": 1.2}, general_bpb={"self": 1.01}))
    (record,) = records.read()
    assert (record.kind, record.step, record.tokens_seen) == ("checkpoint", 100, 7)
    assert (record.measured.domain, record.measured.general) == ({"docs": 1.2}, {"self": 1.01})
    assert (record.measured.domain_bytes, record.measured.tasks) == ({"docs": 1000}, {})  # not the base's tasks
