"""What the worker said is in the run directory: in order, whole, and never lost to a kill or a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.artifacts.disks import fill
from tests.worker.conftest import step_report

from steep.spec.errors import EXIT_STOPPED, OutOfSpace
from steep.spec.reports import (
    REPORT,
    CheckpointReport,
    EvaluationReport,
    NoticeReport,
    ProgressReport,
    Report,
    StageReport,
)
from steep.spec.stages import Stage
from steep.train.observer import Several, Silent
from steep.worker import reports as reports_module
from steep.worker.reports import RunReports


def read(path: Path) -> list[Report]:
    """Every line is a report, and they are numbered without a gap."""
    content = path.read_bytes()
    assert content.endswith(b"\n")
    found = [REPORT.validate_json(line) for line in content.splitlines()]
    assert [one.sequence for one in found] == list(range(len(found)))
    return found


def progress(done: float, total: float | None = 100.0, what: str = "files read") -> ProgressReport:
    return ProgressReport(stage=Stage.PREPARE, what=what, done=done, total=total)


@contextmanager
def opened(path: Path) -> Iterator[RunReports]:
    """The reports of a worker; the end of its process closes the file."""
    reports = RunReports(path)
    try:
        yield reports
    finally:
        reports.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "reports.jsonl"


def test_every_kind_comes_back_numbered_and_timed(path: Path) -> None:
    before = time.time()
    said = [
        StageReport(stage=Stage.TRAIN, event="started", detail="zwölf €\nzwei Zeilen"),
        progress(1),
        step_report(1, mfu=0.4),
        step_report(2, skipped=True),
        EvaluationReport(step=2, tokens_seen=200, domain_bpb={"a": 1.5}, general_bpb={}),
        CheckpointReport(step=2, event="saved", size_bytes=7),
        NoticeReport(code="code", message="sentence"),
    ]
    with opened(path) as reports:
        for report in said:
            getattr(reports, report.kind)(report)
    found = read(path)
    assert [one.kind for one in found] == ["stage", "progress", "step", "step", "evaluation", "checkpoint", "notice"]
    assert all(before <= one.time <= time.time() for one in found)
    assert [one.model_copy(update={"time": 0.0, "sequence": 0}) for one in found] == said


def test_a_second_worker_goes_on_counting(path: Path) -> None:
    for number in range(3):
        with opened(path) as reports:
            reports.step(step_report(number))
    assert [one.step for one in read(path) if one.kind == "step"] == [0, 1, 2]


@pytest.mark.parametrize("torn", ['{"kind":"step","st', "x", "\u20ac", "\0\0\0\0", '{"kind":"notice"}'])
@pytest.mark.parametrize("whole", [0, 2])
def test_half_a_line_does_not_swallow_the_next(path: Path, torn: str, whole: int) -> None:
    with opened(path) as reports:
        for number in range(whole):
            reports.step(step_report(number))
    with open(path, "ab") as stream:
        stream.write(torn.encode()[: max(1, len(torn.encode()) - 1)])
    with opened(path) as reports:
        reports.step(step_report(9))
    assert [one.step for one in read(path) if one.kind == "step"] == [*range(whole), 9]


WRITER = """
import sys
from pathlib import Path
from tests.worker.conftest import step_report
from steep.worker.reports import RunReports
reports = RunReports(Path(sys.argv[1]))
for number in range(10**9):
    reports.step(step_report(number))
    if number == 20:
        print("busy", flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_whole_reports(path: Path, repository: Path) -> None:
    for _ in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=repository
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "busy\n"
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait(10)
        writer.stdout.close()
        with opened(path) as reports:
            reports.notice(NoticeReport(code="after", message="the kill"))
        assert read(path)[-1].kind == "notice"
    assert len(read(path)) > 42


def test_progress_is_told_a_few_times_a_second(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(reports_module.time, "monotonic", lambda: clock)
    with opened(path) as reports:
        for number in range(1000):
            clock += 0.01
            reports.progress(progress(number, 10_000))
    told = [one.done for one in read(path) if one.kind == "progress"]
    assert told[0] == 0
    assert 35 <= len(told) <= 41  # ten seconds


def test_the_end_and_another_matter_are_told_at_once(path: Path) -> None:
    said = (progress(1), progress(2), progress(100), progress(1, what="tokens"), progress(2, what="tokens"))
    with opened(path) as reports:
        for report in said:
            reports.progress(report)
    told = [(one.what, one.done) for one in read(path) if one.kind == "progress"]
    assert told == [("files read", 1), ("files read", 100), ("tokens", 1)]


def test_a_full_disk_pauses_and_what_was_said_stays(small_disk: Path) -> None:
    path = small_disk / "run" / "reports.jsonl"
    with opened(path) as reports:
        reports.notice(NoticeReport(code="before", message="x" * 4000))
        filler, listening = fill(small_disk), Several((Silent(), reports))

        def go_on() -> None:
            for number in range(100):
                listening.notice(NoticeReport(code="during", message=f"{number} " * 500))

        with pytest.raises(OutOfSpace, match=r"reports\.jsonl: the disk is full") as full:
            go_on()
        assert full.value.exit_code == EXIT_STOPPED
        at_the_end = path.read_bytes()  # what a process leaves that ends here
        filler.unlink()
    path.write_bytes(at_the_end)
    with opened(path) as reports:
        reports.notice(NoticeReport(code="after", message="there is room"))
    codes = [one.code for one in read(path) if one.kind == "notice"]
    assert (codes[0], codes[-1]) == ("before", "after")


def test_while_the_disk_is_full_only_whole_lines_stand_and_it_closes(small_disk: Path) -> None:
    path = small_disk / "run" / "reports.jsonl"
    with opened(path) as reports:
        filler = fill(small_disk)
        os.truncate(filler, filler.stat().st_size - 3 * 4096)

        def go_on() -> None:
            for number in range(100):
                reports.notice(NoticeReport(code="during", message=f"{number} " * 700))

        with pytest.raises(OutOfSpace):
            go_on()
        assert path.read_bytes().endswith(b"}\n")
        filler.unlink()
        reports.notice(NoticeReport(code="after", message="there is room, and no number is left out"))
    assert [one.code for one in read(path)][-1] == "after"
