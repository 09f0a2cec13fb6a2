"""The outbox gives what is still to be sent, whole, in order and of a bounded size, whatever lies in the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from steep.artifacts import outbox as outbox_module
from steep.artifacts.outbox import BATCH_BYTES, LINE_BYTES, Outbox
from steep.artifacts.redaction import Redaction
from steep.artifacts.rundir import RunDirectory
from steep.spec.api.attempts import LogLine
from steep.spec.reports import NoticeReport, Report


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def say(run: RunDirectory, *numbers: int, message: str = "m") -> None:
    with open(run.reports_file, "ab") as stream:
        for number in numbers:
            report = NoticeReport(code="c", message=f"{message} {number}", sequence=number, time=1.0)
            stream.write(report.model_dump_json(exclude_none=True).encode() + b"\n")


def printed(run: RunDirectory, content: bytes, name: str = "worker.out") -> None:
    with open(run.path / name, "ab") as stream:
        stream.write(content)


def numbers(reports: tuple[Report, ...]) -> list[int]:
    return [one.sequence for one in reports]


def drain(outbox: Outbox, *, most: int = 500) -> tuple[list[Report], list[LogLine], int]:
    """Everything, as a server would take it; and in how many batches."""
    reports: list[Report] = []
    logs: list[LogLine] = []
    for batches in range(10_000):
        batch = outbox.batch(most=most)
        if not batch.reports and not batch.logs:
            return reports, logs, batches
        reports += batch.reports
        logs += batch.logs
        ends = {line.stream: line.end for line in logs}
        outbox.move(len(reports), dict(ends))
    raise AssertionError("it never ends")


def test_nothing_is_there_at_first(run: RunDirectory) -> None:
    outbox = Outbox(run, Redaction())
    assert outbox.batch().reports == outbox.batch().logs == ()
    outbox.move(5, {"stdout": 7})
    assert outbox.batch(to_the_end=True).reports == ()


def test_reports_come_in_order_and_again_until_it_is_moved(run: RunDirectory) -> None:
    outbox = Outbox(run, Redaction())
    say(run, *range(7))
    assert numbers(outbox.batch().reports) == numbers(outbox.batch().reports) == list(range(7))
    outbox.move(5, {})
    assert numbers(outbox.batch().reports) == [5, 6]
    outbox.move(7, {})
    assert outbox.batch().reports == ()
    say(run, 7)
    assert numbers(outbox.batch().reports) == [7]
    outbox.move(2, {})  # the server went back to an older state
    assert numbers(outbox.batch().reports) == [2, 3, 4, 5, 6, 7]
    outbox.move(99, {})  # it knows of more than is here
    assert outbox.batch().reports == ()


def test_a_report_that_is_being_written_is_left(run: RunDirectory) -> None:
    outbox = Outbox(run, Redaction())
    say(run, 0)
    whole = run.reports_file.read_bytes()
    run.reports_file.write_bytes(whole + whole[:-1])
    assert numbers(outbox.batch(to_the_end=True).reports) == [0]
    run.reports_file.write_bytes(whole + whole)
    assert numbers(outbox.batch().reports) == [0, 1]  # the line is what counts


@pytest.mark.parametrize("line", [b"", b"{", b'{"kind": "of a newer worker"}', b"\xff\xfe", b"[]"])
def test_a_line_that_cannot_be_read_takes_its_place(run: RunDirectory, line: bytes) -> None:
    """Else the server would wait for it for ever."""
    say(run, 0)
    with open(run.reports_file, "ab") as stream:
        stream.write(line + b"\n")
    say(run, 2)
    reports = Outbox(run, Redaction()).batch().reports
    assert numbers(reports) == [0, 1, 2]
    assert isinstance(reports[1], NoticeReport)
    assert reports[1].code == "report_left_out"


def test_batches_are_bounded(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    say(run, *range(40), message="x" * 20_000)
    printed(run, b"".join(b"%05d %s\n" % (number, b"y" * 100) for number in range(6000)))
    outbox = Outbox(run, Redaction())
    batch = outbox.batch()
    assert sum(len(one.model_dump_json()) for one in batch.reports) <= BATCH_BYTES + 20_000
    assert sum(len(one.text) for one in batch.logs) <= BATCH_BYTES
    reports, logs, _ = drain(outbox)
    assert numbers(tuple(reports)) == list(range(40))
    assert [line.text[:5] for line in logs] == [f"{number:05d}" for number in range(6000)]
    monkeypatch.setattr(outbox_module, "BATCH_BYTES", 10_000)
    outbox.move(0, {})
    assert numbers(outbox.batch().reports) == [0]  # one that is too large by itself is sent by itself
    outbox.move(40, {})
    assert len(outbox.batch(most=3).logs) == 3


def test_lines_know_where_they_lie(run: RunDirectory) -> None:
    content = "eins\n\nzwölf €\nThe end".encode()
    printed(run, content)
    printed(run, b"err\xff\0or\n", "worker.err")
    outbox = Outbox(run, Redaction())
    logs = outbox.batch().logs
    assert [(line.stream, line.offset, line.end, line.text) for line in logs] == [
        ("stdout", 0, 5, "eins"), ("stdout", 5, 6, ""), ("stdout", 6, 17, "zwölf €"), ("stderr", 0, 8, "err\ufffd\ufffdor"),
    ]  # fmt: skip
    assert [line.text for line in outbox.batch(to_the_end=True).logs] == [
        "eins",
        "",
        "zwölf €",
        "The end",
        "err\ufffd\ufffdor",
    ]
    outbox.move(0, {"stdout": 17, "stderr": 8})
    assert outbox.batch().logs == ()
    printed(run, b" of it\n")
    assert [(line.offset, line.end, line.text) for line in outbox.batch().logs] == [
        (17, len(content) + 7, "The end of it")
    ]
    outbox.move(0, {"stdout": 20, "stderr": 8})  # a part was sent by an attempt that ended there
    assert [line.text for line in outbox.batch().logs] == [" end of it"]


@pytest.mark.parametrize("unit", [b"x", "€".encode(), b"ab ", "\U0001f600 é".encode()])
def test_endless_lines_are_cut_where_it_does_no_harm(run: RunDirectory, unit: bytes) -> None:
    content = unit * (5 * LINE_BYTES // len(unit))
    printed(run, content)
    outbox = Outbox(run, Redaction())
    _, logs, _ = drain(outbox)
    assert all(len(line.text.encode()) <= LINE_BYTES and "\ufffd" not in line.text for line in logs)
    assert logs[-1].end >= len(content) - LINE_BYTES
    assert "".join(line.text for line in logs).replace(" ", "") in content.decode().replace(" ", "")
    assert [line.offset for line in logs[1:]] == [line.end for line in logs[:-1]]


def test_a_secret_is_not_cut_in_two(run: RunDirectory) -> None:
    secret = "wJalrXUtnFEMIK7MDENGbPxRfiCY"
    redact = Redaction([secret])
    for shift in range(0, 60, 7):
        (run.path / "worker.out").write_bytes(b"word " * ((LINE_BYTES - shift) // 5) + secret.encode() + b" and more\n")
        _, logs, _ = drain(Outbox(run, redact))
        assert "[redacted]" in "".join(line.text for line in logs), shift
        assert not [line for line in logs if "wJalr" in line.text or "fiCY" in line.text], shift


def test_secrets_do_not_leave_in_reports_either(run: RunDirectory) -> None:
    secret = "12345678"  # looks like a number, and must not spoil one
    report = NoticeReport(code="c", message=f"with {secret}", sequence=0, step=12345678, time=12345678.0)
    run.reports_file.write_text(report.model_dump_json() + "\n")
    (sent,) = Outbox(run, Redaction([secret])).batch().reports
    assert sent == report.model_copy(update={"message": "with [redacted]"})


def test_what_the_server_refuses_is_left_out(run: RunDirectory) -> None:
    say(run, 0, 1, 2)
    printed(run, b"a\nb\nc\n")
    outbox = Outbox(run, Redaction())
    outbox.move(1, {"stdout": 2})
    outbox.leave_out(outbox.batch(most=1))
    outbox.move(0, {})
    batch = outbox.batch()
    assert [getattr(one, "message", "") for one in batch.reports] == ["m 0", "report 1 of the run was refused", "m 2"]
    assert [(line.offset, line.text) for line in batch.logs] == [(0, "a"), (2, "[this line was refused]"), (4, "c")]
