"""What happens is followed to the end: over lost connections, restarts, and streams that end too early."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.client.conftest import Do
from tests.client.service import Cut, Reply, Seen, Service, busy, event, job_view, lost, ok, page, problem

from steep.client import watching
from steep.client.client import Client
from steep.client.progress import describe, line_on
from steep.spec.api.files import NEXT_OFFSET_HEADER
from steep.spec.api.jobs import JobView
from steep.spec.errors import NotFound, ServerUnavailable
from steep.spec.states import State

SPEC = {"name": "name-0", "base": "/base", "corpus": {"sources": ["/text"]}}
Cutting = Callable[[int], bool]


class Story:
    """A job to which one thing after another happens, told as events; `cutting` says after which of them the line is cut."""

    def __init__(self, service: Service, length: int = 40, cutting: Cutting = lambda number: False) -> None:
        self.events = [event(3 * number, message=f"zwölf \u2028 {number}") for number in range(1, length)]
        self.events.append(event(3 * length, "succeeded"))
        self.cutting = cutting
        self.is_over = False
        service.route("GET", "/jobs/job-0/events", self.answer)
        service.route("GET", "/jobs/job-0", self.job)

    def job(self, seen: Seen) -> Reply:
        standing = ("succeeded", "completed") if self.is_over else ("running", "working")
        return ok(job_view(0, *standing, spec=SPEC))

    def answer(self, seen: Seen) -> Reply:
        after = int(seen.headers.get("last-event-id") or seen.query.get("after") or 0)
        rest = [one for one in self.events if one["id"] > after]
        if "text/event-stream" not in seen.headers.get("accept", ""):
            size = int(seen.query["page_size"])
            return ok({"items": rest[:size], "page_size": size, "has_more": len(rest) > size})
        return Reply(200, headers={"Content-Type": "text/event-stream"}, pieces=self.stream(rest))

    def stream(self, rest: list[dict[str, Any]]) -> Iterator[bytes]:
        yield b": hello\n\n"
        for one in rest:
            text = f"id: {one['id']}\nevent: {one['kind']}\ndata: {ok(one).body.decode()}\n\n".encode()
            if self.cutting(one["id"]):
                yield text[: len(text) // 2]
                raise Cut
            yield text
            yield b": keep-alive\n\n"
        self.is_over = True


def ids(story: Story) -> list[int]:
    return [one["id"] for one in story.events]


def test_everything_is_told_once_and_in_order(do: Do, service: Service) -> None:
    story = Story(service)
    told = do("jobs.watch", "job-0")
    assert [one.id for one in told] == ids(story)
    assert told[4].message == "zwölf \u2028 5"
    assert len(service.seen) == 1


def test_a_lost_connection_is_made_again_unseen(do: Do, service: Service) -> None:
    cut_once = {9, 12, 60, 117, 120}  # the last one too

    def cutting(number: int) -> bool:
        if number not in cut_once:
            return False
        cut_once.remove(number)
        return True

    story = Story(service, cutting=cutting)
    service.faults = [None, busy(503), None, lost, busy(502)]
    assert [one.id for one in do("jobs.watch", "job-0")] == ids(story)
    assert not cut_once
    assert [seen.headers.get("last-event-id") for seen in service.seen][-1] == "117"


def test_a_server_that_repeats_itself_is_not_believed(client: Client, service: Service) -> None:
    story = Story(service, 5)
    story.answer = lambda seen: Reply(200, pieces=story.stream(story.events[:3] + story.events))  # type: ignore[method-assign]
    service.route("GET", "/jobs/job-0/events", story.answer)
    assert [one.id for one in client.jobs.watch("job-0")] == ids(story)


def test_it_goes_on_from_where_one_was(client: Client, service: Service) -> None:
    story = Story(service)
    assert [one.id for one in client.jobs.watch("job-0", after=99)] == ids(story)[33:]
    assert [one.id for one in client.jobs.events("job-0", after=99)] == ids(story)[33:]


def test_a_job_that_ended_before_is_told_to_its_end(client: Client, service: Service) -> None:
    """The stream of an old job may be empty: what it would have told is listed."""
    story = Story(service)
    story.is_over = True
    answer = story.answer

    def silent(seen: Seen) -> Reply:
        if "text/event-stream" in seen.headers.get("accept", ""):
            return Reply(200, pieces=iter([b": nothing new\n\n"]))
        return answer(seen)

    service.route("GET", "/jobs/job-0/events", silent)
    assert [one.id for one in client.jobs.watch("job-0")] == ids(story)
    assert list(client.jobs.watch("job-0", after=ids(story)[-1])) == []


def test_kinds_of_a_newer_server_are_passed_over(client: Client, service: Service) -> None:
    story = Story(service, 6)
    story.events.insert(2, event(7, "sang_a_song"))
    assert [one.id for one in client.jobs.watch("job-0")] == [one for one in ids(story) if one != 7]


def test_watching_nothing_is_an_error_at_once(do: Do, service: Service) -> None:
    service.route("GET", "/jobs/job-0/events", lambda seen: problem(404, "there is no such job", code="not_found"))
    with pytest.raises(NotFound, match="no such job"):
        do("jobs.watch", "job-0")
    assert len(service.seen) == 1


def test_a_server_that_stays_away_is_given_up_in_the_end(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    Story(service, cutting=lambda number: number == 9)
    monkeypatch.setattr(watching, "PATIENCE_SECONDS", 0.4)
    with Client(service.address, service.token, patience_seconds=0.1) as impatient:
        told = impatient.jobs.watch("job-0")
        assert [next(told).id, next(told).id] == [3, 6]
        service.stop()
        with pytest.raises(ServerUnavailable):
            next(told)


def test_one_may_stop_listening(client: Client, service: Service) -> None:
    def endless() -> Iterator[bytes]:
        for number in range(1, 10**9):
            yield f"id: {number}\ndata: {ok(event(number)).body.decode()}\n\n".encode()
            time.sleep(0.001)

    service.route("GET", "/events", lambda seen: Reply(200, pieces=endless()))
    told = client.events.watch(after=0)
    assert [next(told).id for _ in range(3)] == [1, 2, 3]
    told.close()  # type: ignore[attr-defined]
    service.route("GET", "/events", lambda seen: page([], seen.query))
    assert list(client.events.list()) == []


# ---- waiting


def test_a_job_is_waited_for_and_shown(do: Do, service: Service) -> None:
    states = [("queued", "submitted")] * 2 + [("running", "working")] * 3 + [("succeeded", "completed")]
    views = iter([job_view(0, *state, spec=SPEC) for state in states])
    service.route("POST", "/jobs", lambda seen: ok(job_view(0), 201))
    service.route("GET", "/jobs/job-0", lambda seen: ok(next(views)))
    shown: list[State] = []
    job = do("jobs.wait", "job-0", progress=lambda view: shown.append(view.standing.state), poll_seconds=0.01)
    assert job.state is State.SUCCEEDED
    assert shown == [State(state) for state, _ in states]


def test_create_and_wait_in_one_line(client: Client, service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    progress = {"stage": "train", "step": 3, "total_steps": 1200, "loss": 2.345, "tokens_per_second": 1234.5}
    views = [
        job_view(0, "running", "working", spec=SPEC, progress={**progress, "eta_seconds": 300.0}),
        job_view(0, "failed", "training_failed", spec=SPEC),
    ]
    service.route("POST", "/jobs", lambda seen: ok(job_view(0), 201))
    service.route("GET", "/jobs/job-0", lambda seen: ok(views.pop(0)))
    job = client.jobs.create(SPEC)
    assert job.wait(progress=True, poll_seconds=0.01).state is State.FAILED
    assert job.state is State.FAILED  # it knows it too
    assert capsys.readouterr().err.splitlines() == [
        "name-0 running: train, step 3 of 1,200, loss 2.345, 1,234 tokens/s, 5 min left",
        "name-0 failed: training failed",
    ]


def test_a_server_that_is_away_while_one_waits_is_waited_for(service: Service) -> None:
    over = threading.Event()
    service.route(
        "GET", "/jobs/job-0",
        lambda seen: ok(job_view(0, *(("succeeded", "completed") if over.is_set() else ("running", "working")), spec=SPEC)),
    )  # fmt: skip

    def restart() -> None:
        with service.away():
            time.sleep(0.3)
            over.set()

    with Client(service.address, service.token, patience_seconds=0.1) as client:
        threading.Timer(0.1, restart).start()
        assert client.jobs.wait("job-0", poll_seconds=0.02).state is State.SUCCEEDED


def test_nobody_waits_for_ever_who_does_not_want_to(do: Do, service: Service) -> None:
    service.route("GET", "/jobs/job-0", lambda seen: ok(job_view(0, spec=SPEC)))
    with pytest.raises(TimeoutError, match="job-0 has not ended: it is queued"):
        do("jobs.wait", "job-0", timeout_seconds=0.05, poll_seconds=0.02)


def test_a_line_on_a_terminal_is_written_over() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    show = line_on(out)
    prepare = {"stage": "prepare", "what": "files read", "done": 1500.0, "total": 2000.0}
    running = JobView.model_validate(job_view(0, "running", "working", progress=prepare))
    ended = JobView.model_validate(job_view(0, "cancelled", "cancelled_by_user"))
    for view in (running, ended):
        show(view)
    assert out.getvalue().count("\r") == 2
    assert out.getvalue().endswith("\n")
    first, last = out.getvalue().strip("\r\n").split("\r")
    assert first == "name-0 running: prepare, 1,500 of 2,000 files read"
    assert len(last) == len(first)  # nothing of the longer line stays
    assert describe(ended) == "cancelled: cancelled by user"


@pytest.mark.parametrize(("stage", "told"), [("train", True), ("evaluate", False), ("select", False)])
def test_the_numbers_of_training_are_told_while_it_trains(stage, told):
    progress = {"stage": stage, "step": 12, "loss": 5.569, "tokens_per_second": 631.0, "eta_seconds": 30.0}
    said = describe(JobView.model_validate(job_view(0, "running", "working", progress=progress)))
    assert ("loss 5.569, 631 tokens/s" in said) is told
    assert said.endswith("30 s left")


# ---- logs


class Log:
    """What a job printed, served in parts; as many bytes are missing in the answer as secrets took."""

    def __init__(self, service: Service, lines: list[bytes]) -> None:
        self.lines = lines
        self.is_over = True
        service.route("GET", "/jobs/job-0/logs", self.answer)
        service.route("GET", "/jobs/job-0", self.job)

    def job(self, seen: Seen) -> Reply:
        standing = ("succeeded", "completed") if self.is_over else ("running", "working")
        return ok(job_view(0, *standing, spec=SPEC))

    def answer(self, seen: Seen) -> Reply:
        assert seen.query["stream"] == "stderr"
        number = int(seen.query["offset"]) // 100  # each line took a hundred bytes where it was written
        part = self.lines[number : number + 2]
        return Reply(200, b"".join(part), {NEXT_OFFSET_HEADER: str(100 * (number + len(part)))})


def test_logs_are_read_part_by_part(do: Do, service: Service) -> None:
    lines = [f"Zeile {number} €\n".encode() for number in range(7)]
    Log(service, lines)
    service.faults = [None, lost, busy(503)]
    text = "".join(do("jobs.logs", "job-0", stream="stderr"))
    assert text.encode() == b"".join(lines)
    assert "".join(do("jobs.logs", "job-0", stream="stderr", offset=500)).encode() == b"".join(lines[5:])


def test_logs_are_followed_until_the_job_has_ended(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steep.client.jobs.POLL_SECONDS", 0.02)
    log = Log(service, [b"one\n"])
    log.is_over = False
    told = client.jobs.logs("job-0", stream="stderr", follow=True)
    assert next(told) == "one\n"
    threading.Timer(0.1, log.lines.append, [b"two\n"]).start()
    assert next(told) == "two\n"
    log.lines.append(b"three\n")
    log.is_over = True
    assert list(told) == ["three\n"]
