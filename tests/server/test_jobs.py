"""Jobs through a real server, the local backend and real workers: to the end, whatever is killed on the way."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.server.serving import ServerProcess, wait_for

from steep import Client
from steep.client.job import Job
from steep.spec.api.checkpoints import EvaluationRequest
from steep.spec.errors import Conflict, InvalidSpec, NotFound
from steep.spec.events import EventKind
from steep.spec.states import Reason, State

pytestmark = pytest.mark.slow
Tiny = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, place: Path) -> Iterator[ServerProcess]:
    """A server that keeps a warm process, for all tests of this file."""
    server = ServerProcess(tmp_path_factory.mktemp("server") / "data", place, ("--cpu-slots", "2"))
    server.start()
    yield server
    server.end()


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def undisturbed(client: Client, tiny: Tiny) -> Job:
    """A job that nothing happened to."""
    job = client.jobs.create(tiny("undisturbed")).wait(timeout_seconds=120, poll_seconds=0.2)
    assert job.state is State.SUCCEEDED, job.standing
    return job


def worker_of(server: ServerProcess, job: Job) -> psutil.Process:
    """The worker's process: it is the one that holds the run."""
    return psutil.Process(int((server.data / "runs" / job.id / "lock").read_text()))


def export(server: ServerProcess, job: Job) -> bytes:
    return (server.data / "runs" / job.id / "export" / "model.safetensors").read_bytes()


def reports(server: ServerProcess, job: Job) -> list[dict[str, Any]]:
    path = server.data / "runs" / job.id / "reports.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for_step(client: Client, job: Job, step: int) -> None:
    wait_for(lambda: client.jobs.detail(job.id).progress.step >= step)


def test_from_submission_to_an_export(client: Client, server: ServerProcess, undisturbed: Job, tmp_path: Path) -> None:
    kinds = [event.kind for event in undisturbed.events()]
    assert kinds[:4] == [EventKind.CREATED, EventKind.QUEUED, EventKind.PROVISIONED, EventKind.STARTED]
    assert kinds[-1] is EventKind.SUCCEEDED
    assert {EventKind.EVALUATED, EventKind.CHECKPOINT_SAVED, EventKind.SELECTED, EventKind.EXPORTED} <= set(kinds)
    view = client.jobs.detail(undisturbed.id)
    assert (view.attempts, view.outcome.selected_step, view.outcome.has_export) == (1, 60, True)
    assert view.outcome.gain == undisturbed.results().selected.gain
    base = next(report for report in reports(server, undisturbed) if report["kind"] == "evaluation")
    assert sum(base["domain_bytes"].values()) == undisturbed.results().domain_bytes
    sent = [report.sequence for report in undisturbed.reports()]
    assert sent == list(range(len(reports(server, undisturbed))))
    assert [one.step for one in client.checkpoints.list(undisturbed.id) if one.selected] == [60]
    other = tmp_path / "export" / "model.safetensors"  # of another job, whose export has the same size
    other.parent.mkdir()
    other.write_bytes(bytes(len(export(server, undisturbed))))
    client.exports.download(undisturbed.id, tmp_path / "export")
    assert other.read_bytes() == export(server, undisturbed)
    assert all(file.blake3 for file in client.exports.files(undisturbed.id))
    client.checkpoints.download(undisturbed.id, 60, tmp_path / "checkpoint")
    assert (tmp_path / "checkpoint" / "manifest.json").exists()


def test_a_stream_of_events_goes_on_where_it_was(client: Client, undisturbed: Job) -> None:
    streamed = list(undisturbed.watch())
    assert streamed == list(undisturbed.events())
    middle = streamed[len(streamed) // 2]
    assert list(undisturbed.watch(after=middle.id)) == [event for event in streamed if event.id > middle.id]


def test_a_worker_that_is_killed_is_tried_again_and_ends_with_the_same_bytes(
    client: Client, server: ServerProcess, undisturbed: Job, tiny: Tiny
) -> None:
    job = client.jobs.create(tiny("killed"))
    wait_for_step(client, job, 25)
    worker_of(server, job).send_signal(signal.SIGKILL)
    job.wait(timeout_seconds=120, poll_seconds=0.2)
    assert job.state is State.SUCCEEDED
    kinds = [event.kind for event in job.events()]
    assert EventKind.RETRIED in kinds
    assert client.jobs.detail(job.id).attempts == 2
    assert [one.exit_code for one in client.jobs.detail(job.id).attempt_list] == [-9, 0]
    assert export(server, job) == export(server, undisturbed)


def test_paused_it_keeps_what_it_has_and_resumed_it_ends_with_the_same_bytes(
    client: Client, server: ServerProcess, undisturbed: Job, tiny: Tiny
) -> None:
    job = client.jobs.create(tiny("paused"))
    wait_for_step(client, job, 10)
    job.pause()
    wait_for(lambda: job.refresh().standing.is_paused)
    assert job.standing.reason is Reason.HELD_BY_USER
    assert [one.job_id for one in client.devices.list()] == [None, None]
    last = job.view.progress.step
    assert last in [one.step for one in client.checkpoints.list(job.id)]
    job.resume().wait(timeout_seconds=120, poll_seconds=0.2)
    assert job.state is State.SUCCEEDED
    assert client.jobs.detail(job.id).attempts == 2
    assert export(server, job) == export(server, undisturbed)


def test_cancelled_it_ends_and_stays_so(client: Client, server: ServerProcess, tiny: Tiny) -> None:
    job = client.jobs.create(tiny("cancelled", steps=30_000))
    wait_for_step(client, job, 5)
    worker = worker_of(server, job)
    job.cancel()
    wait_for(lambda: job.refresh().standing.is_terminal, 30)
    assert job.state is State.CANCELLED
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert client.jobs.cancel(job.id).state is State.CANCELLED
    assert job.delete().freed_bytes > 0
    assert not (server.data / "runs" / job.id).exists()


def test_what_a_user_can_mend_fails_at_once_with_the_workers_words(client: Client, tiny: Tiny, place: Path) -> None:
    spec = tiny("wrong")
    spec["corpus"]["sources"] = [str(place / "nothing here")]
    job = client.jobs.create(spec).wait(timeout_seconds=60, poll_seconds=0.2)
    assert (job.state, job.standing.reason) == (State.FAILED, Reason.INVALID_INPUT)
    detail = client.jobs.detail(job.id)
    assert detail.attempts == 1
    assert detail.attempt_list[0].error is not None
    assert "nothing here" in f"{job.standing.detail} {detail.attempt_list[0].error}"


def test_a_server_that_is_killed_or_stopped_costs_nothing(
    client: Client, server: ServerProcess, undisturbed: Job, tiny: Tiny
) -> None:
    server.arguments = (*server.arguments, "--cold")  # what follows begins no worker
    job, long = (client.jobs.create(tiny(name, steps=steps)) for name, steps in (("orphan", 60), ("long", 30_000)))
    wait_for_step(client, job, 5)
    wait_for_step(client, long, 2)
    workers = [worker_of(server, one) for one in (job, long)]
    server.end(signal.SIGKILL)
    known = len(reports(server, job))
    wait_for(lambda: len(reports(server, job)) > known + 10 or not workers[0].is_running(), 30)  # nobody hears it
    server.start()
    job.wait(timeout_seconds=120, poll_seconds=0.2)
    assert job.state is State.SUCCEEDED
    assert client.jobs.detail(job.id).attempts == 1
    assert [report.sequence for report in job.reports()] == list(range(len(reports(server, job))))
    steps = [event.data["step"] for event in job.events() if event.kind is EventKind.CHECKPOINT_SAVED]
    assert steps == sorted(set(steps))
    assert export(server, job) == export(server, undisturbed)
    begun = time.monotonic()
    assert server.end() == 0  # in good order
    assert time.monotonic() - begun < 10
    server.start()
    assert worker_of(server, long) == workers[1]
    assert workers[1].is_running()
    reached = client.jobs.detail(long.id).progress.step
    wait_for_step(client, long, reached + 1)
    long.cancel()
    wait_for(lambda: long.refresh().standing.is_terminal, 30)
    assert client.jobs.detail(long.id).attempts == 1


# ------------------------------------------------------------------------------------------------------ measured later

TASK = """
task: tea_quiz
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["tea", "coffee"]
doc_to_target: answer
metric_list:
  - metric: acc
"""


@pytest.fixture(scope="module")
def task(place: Path) -> str:
    data = place / "quiz.jsonl"
    lines = [{"question": f"Kettle {number} holds cups of", "answer": 0} for number in range(4)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (place / "quiz.yaml").write_text(TASK.format(data=data))
    return str(place / "quiz.yaml")


def test_only_what_may_be_read_is_measured(client: Client, undisturbed: Job, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("not below a root")
    request = EvaluationRequest.model_validate({"texts": [str(tmp_path / "secret.txt")]})
    with pytest.raises(InvalidSpec, match="outside of what jobs may read"):
        client.checkpoints.evaluate(undisturbed.id, 40, request)
    with pytest.raises(NotFound):
        client.checkpoints.evaluate(undisturbed.id, 41, EvaluationRequest(tasks=("x",)))


def test_tasks_and_texts_are_measured_by_a_job_of_its_own(
    client: Client, server: ServerProcess, undisturbed: Job, place: Path, task: str
) -> None:
    request = EvaluationRequest.model_validate(
        {"tasks": [task], "texts": [{"path": str(place / "text"), "name": "tea"}]}
    )
    ordered = client.checkpoints.evaluate(undisturbed.id, 40, request, idempotency_key="once")
    assert client.checkpoints.evaluate(undisturbed.id, 40, request, idempotency_key="once").id == ordered.id
    assert (ordered.kind, ordered.parent, ordered.parent_step) == ("evaluation", undisturbed.id, 40)
    assert ordered.name == "undisturbed-step-40"
    done = client.jobs.wait(ordered.id, timeout_seconds=120, poll_seconds=0.2)
    assert done.state is State.SUCCEEDED, done.standing
    scores = client.checkpoints.get(undisturbed.id, 40).scores
    assert scores.keys() == {"tea_quiz", "text:tea"}
    assert 0 <= scores["tea_quiz"]["acc"] <= 1
    text = scores["text:tea"]
    assert text["gain"] == pytest.approx(text["base_bpb"] - text["bpb"])
    assert text["gain"] > 0.5  # it learned that text
    others = [view.scores for view in client.checkpoints.list(undisturbed.id) if view.step != 40]
    assert others == [{}] * len(others)
    told = [event for event in undisturbed.events() if event.data.get("measured_by") == ordered.id]
    assert [(event.kind, event.data["scores"]) for event in told] == [(EventKind.EVALUATED, scores)]
    run = server.data / "runs" / ordered.id
    assert not (run / "checkpoints").exists()  # what was shared is let go
    assert client.checkpoints.delete(undisturbed.id, 40).freed_bytes > 1000
    assert client.checkpoints.get(undisturbed.id, 40).scores == scores
    with pytest.raises(Conflict, match="cannot be cloned"):
        client.jobs.clone(ordered.id)
