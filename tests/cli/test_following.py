"""Watching a job, as far as a real server would take too long about it: how jobs end, servers that go away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.client.service import KEY, Service, job_view, ok, page, problem

from steep.artifacts.rundir import RunDirectory
from steep.cli.service import following
from steep.cli.service.outcome import outcome_error
from steep.spec.api.jobs import JobDetail
from steep.spec.job import JobSpec
from steep.spec.results import Results, Score

STEEP = Path(sys.executable).with_name("steep")
SPEC = {"name": "name-0", "base": "org/model", "corpus": {"sources": ["/text"]}}


def report(number, kind, **more):
    return {"kind": kind, "sequence": number, "time": float(number), **more}


def standing(state, reason, detail=""):
    return {"state": state, "reason": reason, "detail": detail, "since": 1.0}


REPORTS = [
    report(0, "stage", stage="train", event="started"),
    *(
        report(i, "step", step=i, total_steps=9, tokens_seen=i, loss=9.0 - i, learning_rate=1e-3, gradient_norm=1.0,
               step_seconds=0.1, tokens_per_second=10.0)
        for i in range(1, 10)
    ),
    report(10, "stage", stage="train", event="completed"),
]  # fmt: skip


class Life:
    """A job on a small server: each look at it is one stop further on its way."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.stops = [(standing("running", "working"), 5), (standing("succeeded", "completed"), 11)]
        self.error = None
        self.looks = 0
        service.route("GET", r"/jobs/([^/]+)", self.detail)
        service.route("GET", r"/jobs/([^/]+)/reports", self.reports)
        service.route("GET", r"/jobs/([^/]+)/results", lambda seen, job: ok(results().model_dump(mode="json")))

    def detail(self, seen, job):
        self.looks += 1
        now, _ = self.stops[min(self.looks, len(self.stops)) - 1]
        attempt = {"number": 1, "standing": now, "started_at": 1.0, "error": self.error}
        return ok(job_view(0, spec=SPEC, attempt_list=[attempt]) | {"id": job, "standing": now})

    def reports(self, seen, job):
        _, known = self.stops[min(max(self.looks, 1), len(self.stops)) - 1]
        after = int(seen.query.get("after", -1))
        return page([one for one in REPORTS[:known] if one["sequence"] > after], seen.query)


def results():
    numbers = {"tokens_seen": 9, "general_bpb": 1.0, "forgetting": 0.0}
    base = Score(kind="base", step=0, domain_bpb=2.0, gain=0.0, **numbers)
    best = Score(kind="checkpoint", step=9, domain_bpb=1.5, gain=0.5, selected=True, **numbers)
    return Results(name="job", base="/base", forgetting_budget=0.1, scores=(base, best), selection_reason="it is best")


@pytest.fixture
def service(monkeypatch):
    made = Service()
    monkeypatch.setenv("STEEP_SERVER", made.address)
    monkeypatch.setenv("STEEP_KEY", KEY)
    monkeypatch.setattr(following, "POLL_SECONDS", 0.01)
    monkeypatch.setattr("steep.client.backoff.FIRST_SECONDS", 0.01)
    yield made
    made.stop()


@pytest.fixture
def life(service):
    return Life(service)


def test_every_report_is_shown_once_and_then_the_results(call, life, monkeypatch):
    monkeypatch.setattr("steep.cli.console.PLAIN_INTERVAL_SECONDS", 0.0)
    life.stops = [(standing("running", "working"), known) for known in (1, 3, 3, 4, 9)] + life.stops[-1:]
    code, out, err = call("watch", "job-0")
    assert code == 0, err
    assert out.index("train: completed") < out.index("has succeeded")
    steps = [line for line in out.splitlines() if line.startswith("train: step")]
    assert [int(line.split()[2].partition("/")[0]) for line in steps] == list(range(1, 10))
    assert "Selected: step 9: it is best" in out
    assert "steep jobs download job-0" in out


def test_json_is_the_whole_of_stdout(call, life):
    code, out, err = call("jobs", "watch", "job-0", "--json")
    assert code == 0
    assert json.loads(out)["standing"]["state"] == "succeeded"
    assert "train: step" in err


@pytest.mark.parametrize(
    ("end", "error", "code", "says"),
    [
        (("failed", "invalid_input"), ("invalid_corpus", "has no text"), 2, "has no text"),
        (("failed", "training_failed"), ("training_failed", "loss became NaN"), 1, "loss became NaN"),
        (("failed", "machine_failed"), ("stopped", "the machine went away"), 1, "the machine went away"),
        (("failed", "repeated_failure"), None, 1, "three times"),
        (("cancelled", "cancelled_by_user"), None, 1, "was cancelled"),
        (("queued", "held_by_limit"), None, 3, "steep jobs resume job-0"),
    ],
)
def test_the_exit_code_says_how_it_ended(call, life, end, error, code, says):
    life.stops[-1] = (standing(*end, "it failed three times"), 11)
    life.error = error and {"title": "no", "status": 400, "code": error[0], "detail": error[1], "cure": "Mend it."}
    ended, _, err = call("jobs", "watch", "job-0")
    assert ended == code
    assert says in err
    if error is not None:
        assert "Mend it." in err


def test_an_older_attempts_error_is_not_why_a_job_succeeded():
    view = job_view(0, "succeeded", "completed", spec=SPEC)
    assert outcome_error(JobDetail.model_validate(view)) is None


def test_a_server_that_goes_away_meanwhile_is_waited_for(call, life):
    life.stops = [(standing("running", "working"), 3)] * 30 + life.stops

    def be_away():
        while life.looks < 5:
            time.sleep(0.005)
        with life.service.away():
            time.sleep(0.3)

    away = threading.Thread(target=be_away)
    away.start()
    code, out, err = call("jobs", "watch", "job-0")
    away.join()
    assert code == 0, err
    assert "Selected: step 9" in out


def test_ctrl_c_leaves_the_job_at_work(life, tmp_path):
    life.stops = [(standing("running", "working"), 3)]
    environment = {**os.environ, "COLUMNS": "160"}
    watch = subprocess.Popen(
        [STEEP, "jobs", "watch", "job-0"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background have none
    )  # fmt: skip
    first = watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    rest, _ = watch.communicate(timeout=90)
    assert watch.returncode == 130, first + rest
    assert "the job goes on. `steep jobs watch job-0` shows it again" in rest
    assert not life.service.requests("POST", "/jobs/job-0/cancel")


@pytest.mark.parametrize(
    ("command", "again"),
    [
        (("jobs", "submit", "job.yaml", "--watch"), "steep jobs watch job-0"),
        (("jobs", "logs", "job-0", "--follow"), "steep jobs logs job-0 --stream stderr --follow"),
        (("jobs", "events", "job-0", "--follow"), "steep jobs events job-0 --follow"),
        (("jobs", "events", "--follow"), "steep jobs events --follow"),
        (("checkpoints", "evaluate", "job-0", "9", "--task", "arc_easy", "--watch"), "steep jobs watch job-0"),
        (("watch", "run"), "steep watch run"),
    ],
)
def test_what_is_left_at_work_did_not_succeed(call, life, tmp_path, monkeypatch, command, again):
    def leave(*arguments, **options):
        raise KeyboardInterrupt
        yield

    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(json.dumps({**SPEC, "corpus": {"sources": ["s3://bucket/text"]}}))
    RunDirectory(tmp_path / "run").write_spec(JobSpec.model_validate(SPEC))
    life.service.route("POST", "/jobs", lambda seen: ok(job_view(0), 201))
    life.service.route("POST", "/jobs/job-0/checkpoints/9/evaluations", lambda seen: ok(job_view(0), 201))
    monkeypatch.setattr("steep.cli.service.following._follow", lambda *given: next(leave()))
    monkeypatch.setattr("steep.cli.follow.follow", lambda *given, **more: next(leave()))
    monkeypatch.setattr("steep.client.jobs.Jobs.wait", lambda *given, **more: next(leave()))
    for name in ("jobs.Jobs.logs", "jobs.Jobs.watch", "house.Events.watch"):
        monkeypatch.setattr(f"steep.client.{name}", leave)
    code, out, err = call(*command)
    assert code == 130, err
    assert again in out + err


def test_a_job_that_waits_says_why(call, life):
    waiting = standing("queued", "waiting_for_devices", "waiting for 2 x H100 in eu; 3 jobs ahead")
    life.stops = [(waiting, 0)] * 3 + life.stops
    out = call("jobs", "watch", "job-0")[1]
    assert out.count("waiting for 2 x H100 in eu; 3 jobs ahead") == 1


def test_what_the_server_says_of_a_wrong_call_reaches_the_user(call, service):
    service.route(
        "GET",
        "/jobs",
        lambda seen: problem(422, "no", detail="is no state", field="state", cure="Say running.", code=""),
    )
    code, _, err = call("jobs", "list", "--state", "running")
    assert code == 2
    assert "state: is no state" in err
    assert "Say running." in err


@pytest.mark.parametrize(
    ("command", "where"),
    [
        (("keys", "create", ""), "name"),
        (("keys", "create", "bob", "--expires", "0 d"), "expires_in_seconds"),
        (("projects", "create", "Foo"), "name"),
        (("projects", "create", "foo", "--share", "-1"), "share"),
        (("jobs", "update", "job-0", "--priority", "1000"), "priority"),
    ],
)
def test_a_value_that_is_none_is_invalid_input(call, service, command, where):
    code, _, err = call(*command)
    assert code == 2
    assert f"Error: {where}: " in err
    assert "pydantic" not in err


def test_checkpoints_are_pruned_by_a_jobs_name(call, service):
    pruned = {"steps": [3], "aside_steps": [2], "freed_bytes": 7}
    service.route("GET", "/jobs", lambda seen: page([job_view(0), job_view(1)], seen.query))
    service.route("POST", r"/jobs/([^/]+)/checkpoints/prune", lambda seen, job: ok(pruned))
    code, out, err = call("checkpoints", "prune", "name-1", "--json")
    assert code == 0, err
    assert json.loads(out) == pruned
    assert service.requests("POST", "/jobs/job-1/checkpoints/prune")
    assert call("checkpoints", "prune", "job-0")[0] == 0


@pytest.mark.parametrize(
    ("command", "above"),
    [
        (("jobs", "download", "job-0", "--to"), ""),
        (("jobs", "download", "job-0", "--to"), "x"),
        (("jobs", "download", "job-0", "--checkpoint", "3", "--to"), "x"),
        (("files", "download", "file-0", "--to"), "x"),
        (("demo", "--dir"), ""),
        (("demo", "--dir"), "x"),
    ],
)
def test_a_place_that_is_a_file_is_refused_in_words(call, life, tmp_path, command, above):
    file = {"path": "config.json", "size_bytes": 2, "blake3": None}
    for path in ("export", "checkpoints/3"):
        life.service.route("GET", f"/jobs/job-0/{path}/files", lambda seen: page([file], seen.query))
    (tmp_path / "file").write_text("mine")
    code, _, err = call(*command, tmp_path / "file" / above)
    assert code == 2
    assert f"cannot be used as a directory ({tmp_path / 'file'} is a file)" in err


def test_more_jobs_than_are_shown_are_told_of(call, service):
    views = [job_view(number) for number in range(35)]
    service.route("GET", "/jobs", lambda seen: page(views, seen.query))
    _, out, err = call("jobs", "list", "--json")
    assert len(json.loads(out)) == 30
    assert "--all" in err
    assert len(json.loads(call("jobs", "list", "--all", "--json")[1])) == 35
    assert "name-3" in call("jobs", "list")[1]
