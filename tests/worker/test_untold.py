"""A worker that was killed between a deed and its report: the next one makes up for it, once."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from tests.worker.conftest import Recorder, step_report

from steep.artifacts.lineage import rollback
from steep.artifacts.rundir import RunDirectory
from steep.spec.reports import CheckpointReport
from steep.train.observer import Several
from steep.worker.reports import RunReports
from steep.worker.untold import tell_untold


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def commit(run: RunDirectory, step: int) -> None:
    (run.catalog().stage(step) / "weights").write_bytes(b"12345")
    fingerprints = {"spec_fingerprint": "s", "order_fingerprint": "o", "model_fingerprint": "m"}
    run.catalog().commit(step, tokens_seen=10 * step, cursor=step, **fingerprints)


def begin(run: RunDirectory) -> list[tuple[str, int]]:
    """What a new process tells when it begins, which it reports too."""
    heard = Recorder()
    with closing(RunReports(run.reports_file)) as reports:
        tell_untold(run, Several((heard, reports)))
    return [(report.event, report.step) for report in heard.checkpoints]


def test_what_was_done_and_not_told_is_told_once(run: RunDirectory) -> None:
    commit(run, 10)
    with closing(RunReports(run.reports_file)) as reports:
        reports.checkpoint(CheckpointReport(step=10, event="saved", size_bytes=5))
        reports.step(step_report(11))
        commit(run, 20)  # and killed before it is told
    assert begin(run) == [("saved", 20)]
    assert begin(run) == []
    run.catalog().delete(10)
    assert begin(run) == [("deleted", 10)]
    assert begin(run) == []


def test_what_was_set_aside_is_told_as_that(run: RunDirectory) -> None:
    for step in (10, 20, 30):
        commit(run, step)
    begin(run)
    run.catalog().delete(20)
    rollback(run, 10)
    assert begin(run) == [("deleted", 20), ("set_aside", 30)]
    assert begin(run) == []
    commit(run, 30)
    assert begin(run) == [("saved", 30)]
    run.catalog().delete(30)  # of the line that came as far again
    assert begin(run) == [("deleted", 30)]
    commit(run, 40)
    begin(run)
    rollback(run, 10)
    shutil.rmtree(run.checkpoints / "abandoned-2")  # by hand, before anybody was told
    assert begin(run) == [("deleted", 40)]


def test_what_is_told_late_has_its_size(run: RunDirectory) -> None:
    commit(run, 20)
    begin(run)
    (line,) = run.reports_file.read_text().splitlines()
    told = json.loads(line)
    assert (told["size_bytes"], told["tokens_seen"]) == (5, 200)


def test_half_a_line_tells_nothing(run: RunDirectory) -> None:
    commit(run, 10)
    whole = CheckpointReport(step=10, event="saved", size_bytes=5).model_dump_json()
    run.reports_file.write_text(whole)  # no newline: the one that wrote it was killed in the middle
    heard = Recorder()
    tell_untold(run, heard)
    assert [(report.event, report.step) for report in heard.checkpoints] == [("saved", 10)]
