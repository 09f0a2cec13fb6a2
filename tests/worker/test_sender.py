"""Whatever becomes of the line, the server has each report once and in order, and the worker does not notice."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.client.service import Fault, Service, busy, lost, problem, slow, unread
from tests.worker.conftest import step_report
from tests.worker.ear import TOKEN, Ear, lines, wait_for

from steep.artifacts.redaction import Redaction
from steep.artifacts.rundir import RunDirectory
from steep.spec.errors import Fenced
from steep.spec.reports import NoticeReport, StageReport
from steep.spec.stages import Stage
from steep.worker import sender as sender_module
from steep.worker.attempt import Attempt
from steep.worker.reports import RunReports
from steep.worker.sender import Sender, sending
from steep.worker.stop import StopRequest

MakeSender = Callable[..., Sender]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is a hundred times quicker here, but for what a test is about."""
    monkeypatch.setattr("steep.client.backoff.FIRST_SECONDS", 0.01)
    monkeypatch.setattr(sender_module, "LONGEST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(sender_module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(sender_module, "CATCHING_UP_SECONDS", 0.001)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.stop()


@pytest.fixture
def ear(service: Service) -> Ear:
    return Ear(service)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run", attempt=1)


@pytest.fixture
def reports(run: RunDirectory) -> Iterator[RunReports]:
    made = RunReports(run.reports_file, run.fence.check)
    yield made
    made.close()


@pytest.fixture
def make_sender(run: RunDirectory, service: Service) -> Iterator[MakeSender]:
    """Starts senders; they are closed at the end."""
    made: list[Sender] = []

    def make(number: int = 1, token: str = TOKEN, leave: Callable[[str], None] = pytest.fail, **more: Any) -> Sender:
        attempt = Attempt("job-0", number, service.address, token)
        directory = RunDirectory(run.path, attempt=number) if number != 1 else run
        made.append(Sender(directory, attempt, more.get("redact", Redaction()), leave))
        made[-1].start()
        return made[-1]

    yield make
    for sender in made:
        sender.close()


def steps(ear: Ear) -> list[int]:
    """Every report is there once, in order; these are the steps of those that are steps."""
    assert [one["sequence"] for one in ear.reports] == list(range(len(ear.reports)))
    return [one["step"] for one in ear.reports if one["kind"] == "step"]


def work(reports: RunReports, count: int = 200, seconds: float = 0.002) -> None:
    for number in range(count):
        reports.step(step_report(number))
        time.sleep(seconds)


# ---- exactly once and in order


@pytest.mark.parametrize(
    "faults",
    [
        [],
        [None, lost, lost, lost],
        [unread, lost, unread],
        [None, busy(503), busy(502), busy(429, retry_after="1"), busy(500)],
        [None, busy(503), lost, lost, unread, None, lost, lost, lost],
        [slow(0.1)] * 5,
        [None, lambda seen, answer: problem(401, "the server has lost its keys"), None],
        [None, lambda seen, answer: problem(404, "there is no such attempt")] * 3,
    ],
)
def test_each_report_arrives_once_and_in_order(
    ear: Ear, service: Service, reports: RunReports, make_sender: MakeSender, faults: list[Fault | None]
) -> None:
    service.faults = list(faults)
    sender = make_sender()
    work(reports)
    sender.close()
    assert steps(ear) == list(range(200))
    assert not service.faults
    if lost in faults[2:]:
        assert ear.repeated > 0  # it was tested


def test_an_outage_costs_nothing(
    ear: Ear, service: Service, run: RunDirectory, reports: RunReports, make_sender: MakeSender,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    sender = make_sender()
    work(reports, 50)
    wait_for(lambda: len(ear.reports) > 0)
    with service.away():
        work(reports, 1500, seconds=0.0)
        time.sleep(0.3)
    wait_for(lambda: len(ear.reports) == lines(run.reports_file))
    work(reports, 10)
    sender.close()
    assert steps(ear) == [*range(50), *range(1500), *range(10)]
    assert len(capsys.readouterr().err.splitlines()) == 1  # it is said, once
    assert max(len(seen.body) for seen in service.seen) < 400_000


def test_a_server_that_is_away_at_first_gets_all_of_it(
    ear: Ear, service: Service, reports: RunReports, make_sender: MakeSender
) -> None:
    service.stop()
    sender = make_sender()
    work(reports, 20)
    service.start()
    sender.close()
    assert steps(ear) == list(range(20))


def test_what_was_not_sent_is_sent_by_the_next_attempt(
    ear: Ear, service: Service, run: RunDirectory, reports: RunReports, make_sender: MakeSender,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sender_module, "FLUSH_AWAY_SECONDS", 0.2)
    sender = make_sender()
    work(reports, 20)
    wait_for(lambda: len(ear.reports) > 5)
    service.stop()
    work(reports, 20)
    reports.notice(NoticeReport(code="last", message="words"))
    started = time.monotonic()
    sender.close()
    assert time.monotonic() - started < sender_module.FLUSH_SECONDS / 2  # the end of the worker is not held up for long
    service.start()
    service.token = ear.tokens[2]
    ear.next_attempt()
    second = make_sender(2, ear.tokens[2])
    with_second = RunReports(run.reports_file)
    work(with_second, 5)
    with_second.close()
    second.close()
    assert steps(ear) == [*range(20), *range(20), *range(5)]


def test_a_server_that_went_back_in_time_is_told_again(ear: Ear, reports: RunReports, make_sender: MakeSender) -> None:
    make_sender()
    work(reports, 100)
    wait_for(lambda: len(ear.reports) == 100)
    with ear.lock:
        del ear.reports[30:]  # its database was restored
        ear.next_log.clear()
    wait_for(lambda: len(ear.reports) == 100)
    assert steps(ear) == list(range(100))


def test_what_the_server_does_not_take_does_not_hold_up_the_rest(
    ear: Ear, reports: RunReports, make_sender: MakeSender
) -> None:
    ear.refuses = lambda report: report.get("step") == 77
    sender = make_sender()
    work(reports, 150, seconds=0.0)
    sender.close()
    assert steps(ear) == [number for number in range(150) if number != 77]
    assert ear.reports[77]["code"] == "report_left_out"


# ---- lines


def test_printed_lines_arrive_whole_and_without_secrets(
    ear: Ear, service: Service, run: RunDirectory, reports: RunReports, make_sender: MakeSender
) -> None:
    service.faults = [None, lost, busy(503), lost]
    sender = make_sender(redact=Redaction.of({"HF_TOKEN": "hf_notarealtoken"}))
    with open(run.path / "worker.out", "a") as out, open(run.path / "worker.err", "a") as err:
        for number in range(300):
            out.write(f"Zeile {number}: € hf_notarealtoken\n")
            err.write(f"{number} https://user:password@host/")
            out.flush()
            err.flush()
            err.write("x\n")
            time.sleep(0.001)
        out.write("the end")
    sender.close()
    assert ear.text["stdout"].splitlines() == [f"Zeile {number}: € [redacted]" for number in range(300)] + ["the end"]
    assert ear.text["stderr"].splitlines() == [f"{number} https://user:[redacted]@host/x" for number in range(300)]
    assert ear.next_log["stdout"] == (run.path / "worker.out").stat().st_size
    assert not [seen for seen in service.seen if b"hf_notarealtoken" in seen.body or b"password" in seen.body]


# ---- the lease


def test_silence_is_no_death(ear: Ear, make_sender: MakeSender) -> None:
    """With nothing to say, the lease is renewed three times as often as it must be."""
    make_sender()
    ear.lease_seconds = 0.6
    wait_for(lambda: len(ear.heard) > 8)
    pauses = [later - earlier for earlier, later in zip(ear.heard[1:-1], ear.heard[2:], strict=True)]
    assert max(pauses) < 0.6
    assert sorted(pauses)[len(pauses) // 2] > 0.1


def test_samples_ride_along(
    ear: Ear, run: RunDirectory, make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "SAMPLE_SECONDS", 0.15)
    run.path.mkdir()
    ear.lease_seconds = 0.3
    make_sender()
    wait_for(lambda: len(ear.samples) >= 3)
    assert len(ear.heard) > len(ear.samples)
    assert all(sample["disk_free_bytes"] > 0 for sample in ear.samples)


def test_samples_say_what_the_worker_was_at(
    ear: Ear, reports: RunReports, make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "SAMPLE_SECONDS", 0.1)
    ear.lease_seconds = 0.3

    def stage() -> str | None:
        return ear.samples[-1].get("stage") if ear.samples else "none yet"

    reports.stage(StageReport(stage=Stage.PREPARE, event="started"))
    make_sender()
    wait_for(lambda: stage() == "prepare")
    reports.stage(StageReport(stage=Stage.PREPARE, event="completed", seconds=1.0))
    wait_for(lambda: stage() is None)
    reports.stage(StageReport(stage=Stage.TRAIN, event="started"))
    wait_for(lambda: stage() == "train")


# ---- orders


@pytest.mark.parametrize(
    ("directive", "detail", "reason"),
    [
        ("cancel", "", "the service asks to end the job"),
        ("pause", "the cost limit is reached", "the service asks to pause: the cost limit is reached"),
        ("preempt", "", "the service asks to make room"),
    ],
)
def test_an_order_of_the_server_is_a_request_to_stop(
    ear: Ear, make_sender: MakeSender, directive: str, detail: str, reason: str
) -> None:
    sender = make_sender()
    stop = StopRequest(asked=sender.asked)
    wait_for(lambda: len(ear.heard) > 1)
    assert stop() is None
    ear.directive, ear.detail = directive, detail
    wait_for(lambda: stop() is not None)
    assert stop() == reason
    ear.directive = "none"
    time.sleep(0.05)
    assert stop() is not None
    beats = len(ear.heard)
    wait_for(lambda: len(ear.heard) > beats)  # the lease is renewed while the worker saves


def test_a_fenced_attempt_writes_nothing_more(
    ear: Ear, service: Service, run: RunDirectory, reports: RunReports, make_sender: MakeSender
) -> None:
    left: list[str] = []
    sender = make_sender(leave=left.append)
    work(reports, 10)
    wait_for(lambda: len(ear.reports) == 10)
    ear.next_attempt()
    wait_for(lambda: left != [])
    assert left == ["attempt 2 has the job now"]
    with pytest.raises(Fenced, match="attempt 2 has the job now"):
        run.fence.check()
    with pytest.raises(Fenced):
        reports.step(step_report(99))
    assert lines(run.reports_file) == 10
    requests = len(service.seen)
    sender.close()
    assert len(service.seen) == requests


# ---- the worker does not notice


class Hung:
    """A server that accepts connections and then says nothing."""

    def __call__(self, seen: Any, answer: Any) -> Any:
        time.sleep(5)
        return problem(503, "too late")


@pytest.mark.parametrize("server", ["there", "away", "hung", "nowhere"])
def test_to_report_takes_no_longer_whatever_the_server_does(
    ear: Ear,
    service: Service,
    reports: RunReports,
    make_sender: MakeSender,
    monkeypatch: pytest.MonkeyPatch,
    server: str,
) -> None:
    monkeypatch.setattr(sender_module, "FLUSH_SECONDS", 0.2)
    monkeypatch.setattr(sender_module, "FLUSH_AWAY_SECONDS", 0.2)
    if server == "away":
        service.stop()
    elif server == "hung":
        service.faults = [Hung()] * 10
    elif server == "nowhere":
        service.port = 9  # nobody answers there
    sender = make_sender()
    used, waited = [], []
    for number in range(300):
        cpu, wall = time.thread_time(), time.perf_counter()
        reports.step(step_report(number))
        assert sender.asked() is None
        used.append(time.thread_time() - cpu)
        waited.append(time.perf_counter() - wall)
        time.sleep(0.001)
    assert sorted(used)[150] < 0.001
    assert sorted(waited)[280] < 0.05  # the machine may be busy, but nobody waits for a server
    started = time.monotonic()
    sender.close()
    assert time.monotonic() - started < 2


def test_the_sender_survives_whatever_goes_wrong_in_it(
    ear: Ear,
    reports: RunReports,
    make_sender: MakeSender,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real, broken = Sender._send, threading.Event()

    def send(self: Sender, *arguments: Any) -> Any:
        if not broken.is_set():
            broken.set()
            raise ZeroDivisionError("a defect")
        return real(self, *arguments)

    monkeypatch.setattr(Sender, "_send", send)
    sender = make_sender()
    work(reports, 20)
    sender.close()
    assert steps(ear) == list(range(20))
    assert "ZeroDivisionError: a defect" in capsys.readouterr().err


def test_numbers_that_are_none_travel_too(ear: Ear, reports: RunReports, make_sender: MakeSender) -> None:
    sender = make_sender()
    reports.step(step_report(1, loss=float("nan"), gradient_norm=float("inf")))
    sender.close()
    assert json.dumps(ear.reports[0])
    assert (ear.reports[0]["loss"], ear.reports[0]["gradient_norm"]) == ("NaN", "Infinity")


def test_without_a_server_nothing_is_sent(run: RunDirectory) -> None:
    before = threading.active_count()
    for attempt in (
        None,
        Attempt("job-0", 1),
        Attempt("job-0", 1, "http://127.0.0.1:9"),
        Attempt("job-0", 1, token="t"),
    ):
        with sending(run, attempt, {}) as asked:
            assert asked() is None
            assert threading.active_count() == before


def test_the_whole_of_it_in_a_block(ear: Ear, service: Service, run: RunDirectory, reports: RunReports) -> None:
    attempt = Attempt("job-0", 1, f"{service.address}/", TOKEN)
    with sending(run, attempt, {"HF_TOKEN": "hf_notarealtoken"}) as asked:
        reports.notice(NoticeReport(code="c", message=f"hf_notarealtoken {TOKEN}"))
        ear.directive = "pause"
        wait_for(lambda: asked() is not None)
    assert ear.reports[0]["message"] == "[redacted] [redacted]"
