"""Each method asks what the API says, and reads what it answers; on both faces."""

from __future__ import annotations

from typing import Any

import pytest
from tests.client.conftest import Do
from tests.client.service import Service, digest, event, job_view, ok, page

from steep.spec.api.checkpoints import EvaluationRequest
from steep.spec.errors import InvalidInput

JOB = job_view(1)
SPEC = {"name": "n", "base": "b", "corpus": {"sources": ["/t"]}}
CHECKPOINT = {"job_id": "j", "step": 8, "tokens_seen": 1, "created_at": 1.0, "size_bytes": 2}
KEY = {"id": "k", "name": "ci", "prefix": "steep-ab", "role": "viewer", "created_at": 1.0}
PROJECT = {"name": "law", "created_at": 1.0}
DEVICE = {"id": "gpu-0", "backend": "local", "kind": "gpu", "model": "H100"}
SECRET = {"name": "hub", "project": "default", "created_at": 1.0, "updated_at": 1.0}
FILE = {"id": "f", "name": "n", "project": "p", "size_bytes": 0, "blake3": digest(b""), "created_at": 1.0}
REPORT = {"kind": "notice", "code": "c", "message": "m", "sequence": 4}
ENTRY = {"id": 1, "time": 1.0, "actor": "k", "action": "job.create"}
RESULTS = {"name": "n", "base": "/b", "forgetting_budget": 0.02, "scores": []}
USAGE = {"since": 1.0, "bucket_seconds": 3600.0, "counts": [1]}
STATUS = {"version": "1", "started_at": 1.0}
FREED = {"freed_bytes": 7}
QUIZ = EvaluationRequest(tasks=("quiz",))

Sent = dict[str, Any] | None
MAKING = {"jobs.clone", "jobs.branch", "checkpoints.evaluate", "keys.create", "projects.create"}
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], str, Sent, Any]] = [
    # what is called, with what; the request, what it says (query or body); the answer, a list where it is one
    ("jobs.plan", (SPEC,), {}, "POST /jobs", {"dry_run": "true"}, {"tokens": 5}),
    ("jobs.clone", ("j",), {"set": {"seed": 3}}, "POST /jobs/j/clone", {"set": {"seed": 3}}, JOB),
    ("jobs.branch", ("j", 8), {"name": "b"}, "POST /jobs/j/branch", {"step": 8, "name": "b"}, JOB),
    ("jobs.rollback", ("j", 8), {}, "POST /jobs/j/rollback", {"step": 8}, JOB),
    ("jobs.pause", ("j",), {}, "POST /jobs/j/pause", None, JOB),
    ("jobs.resume", ("j",), {}, "POST /jobs/j/resume", None, JOB),
    ("jobs.cancel", ("j",), {}, "POST /jobs/j/cancel", None, JOB),
    ("jobs.declare_lost", ("j",), {}, "POST /jobs/j/declare-lost", None, JOB),
    ("jobs.change", ("j",), {"priority": 5}, "PATCH /jobs/j", {"priority": 5}, JOB),
    ("jobs.delete", ("j",), {}, "DELETE /jobs/j", None, FREED),
    ("jobs.get", ("j",), {}, "GET /jobs/j", None, {**JOB, "spec": SPEC}),
    ("jobs.results", ("j",), {}, "GET /jobs/j/results", None, RESULTS),
    ("jobs.chart", ("j", "loss.svg"), {}, "GET /jobs/j/charts/loss.svg", None, "<svg/>"),
    ("jobs.reports", ("j",), {"after": 3, "kind": "notice"}, "GET /jobs/j/reports", {"after": "3", "kind": "notice"}, [REPORT]),
    ("jobs.metrics", ("j",), {}, "GET /jobs/j/metrics", None, [{"time": 1.0}]),
    ("checkpoints.list", ("j",), {}, "GET /jobs/j/checkpoints", None, [CHECKPOINT]),
    ("checkpoints.get", ("j", 8), {}, "GET /jobs/j/checkpoints/8", None, CHECKPOINT),
    ("checkpoints.pin", ("j", 8), {}, "PATCH /jobs/j/checkpoints/8", {"pinned": True}, CHECKPOINT),
    ("checkpoints.unpin", ("j", 8), {}, "PATCH /jobs/j/checkpoints/8", {"pinned": False}, CHECKPOINT),
    ("checkpoints.verify", ("j", 8), {}, "POST /jobs/j/checkpoints/8/verify", None, CHECKPOINT),
    ("checkpoints.evaluate", ("j", 8, QUIZ), {}, "POST /jobs/j/checkpoints/8/evaluations", {"tasks": ["quiz"]}, JOB),
    ("checkpoints.prune", ("j",), {"keep_last": 2}, "POST /jobs/j/checkpoints/prune", {"keep_last": 2}, {"steps": [1], "freed_bytes": 7}),
    ("checkpoints.delete", ("j", 8), {}, "DELETE /jobs/j/checkpoints/8", None, FREED),
    ("files.list", (), {"project": "p"}, "GET /files", {"project": "p"}, [FILE]),
    ("files.get", ("f",), {}, "GET /files/f", None, FILE),
    ("files.delete", ("f",), {}, "DELETE /files/f", None, FREED),
    ("keys.create", ("ci",), {"role": "viewer"}, "POST /keys", {"name": "ci", "role": "viewer"}, {**KEY, "secret": "s"}),
    ("keys.list", (), {}, "GET /keys", None, [KEY]),
    ("keys.get", ("k",), {}, "GET /keys/k", None, KEY),
    ("keys.change", ("k",), {"role": "viewer"}, "PATCH /keys/k", {"role": "viewer"}, KEY),
    ("keys.revoke", ("k",), {}, "POST /keys/k/revoke", None, KEY),
    ("keys.usage", ("k",), {}, "GET /keys/k/usage", None, USAGE),
    ("projects.create", ("law",), {"share": 2.0}, "POST /projects", {"name": "law", "share": 2.0}, PROJECT),
    ("projects.list", (), {}, "GET /projects", None, [PROJECT]),
    ("projects.change", ("law",), {"share": 2.0}, "PATCH /projects/law", {"name": "law", "share": 2.0}, PROJECT),
    ("devices.list", (), {}, "GET /devices", None, [DEVICE]),
    ("secrets.list", (), {}, "GET /secrets", None, [SECRET]),
    ("secrets.set", ("hub", "hf_x"), {}, "PUT /secrets/hub", {"value": "hf_x"}, SECRET),
    ("secrets.delete", ("hub",), {}, "DELETE /secrets/hub", None, FREED),
    ("events.list", (), {}, "GET /events", None, [event(1)]),
    ("audit.list", (), {}, "GET /audit", None, [ENTRY]),
    ("status", (), {}, "GET /status", None, STATUS),
]  # fmt: skip


@pytest.mark.parametrize(
    ("called", "arguments", "options", "request_line", "sent", "answer"), CALLS, ids=lambda one: str(one)[:24]
)
def test_the_request_and_its_answer(
    do: Do,
    service: Service,
    called: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    request_line: str,
    sent: Sent,
    answer: Any,
) -> None:
    method, path = request_line.split()
    service.route(method, path, lambda seen: page(answer, {}) if isinstance(answer, list) else ok(answer))
    found = do(called, *arguments, **options)
    (seen,) = service.requests(method, path)
    (first,) = found if isinstance(answer, list) else (found,)
    if called.split(".")[0] in ("jobs", "checkpoints", "keys", "projects") and hasattr(first, "model_dump"):
        given = answer[0] if isinstance(answer, list) else answer
        assert {name: first.model_dump(mode="json")[name] for name in given} == given
    said = seen.json() if seen.body and "dry_run" not in seen.query else seen.query
    assert {name: said[name] for name in sent or {}} == (sent or {})
    assert ("idempotency-key" in seen.headers) == (called in MAKING)


@pytest.mark.parametrize(
    ("called", "given", "options", "where", "says"),
    [
        ("keys.create", ("",), {}, "name", "is empty"),
        ("keys.create", ("bob",), {"expires_in_seconds": 0.0}, "expires_in_seconds", "greater than 0"),
        ("keys.change", ("key-1",), {"role": "king"}, "role", "viewer"),
        ("projects.create", ("Foo",), {}, "name", "small letters, digits and dashes"),
        ("projects.create", ("foo",), {"share": -1.0}, "share", "greater than 0"),
        ("jobs.change", ("job-1",), {"priority": 1000}, "priority", "100"),
        ("jobs.rollback", ("job-1", -1), {}, "step", "0"),
        ("checkpoints.prune", ("job-1",), {"keep_last": -1}, "keep_last", "1"),
        ("secrets.set", ("token", ""), {}, "value", "is empty"),
    ],
)
def test_a_value_that_no_server_takes_is_the_users_to_mend(do, service, called, given, options, where, says):
    with pytest.raises(InvalidInput) as refused:
        do(called, *given, **options)
    assert refused.value.where == where
    assert says in refused.value.what
    assert "pydantic" not in str(refused.value)
    assert "^[" not in str(refused.value)
    assert service.seen == []


def test_what_is_wrong_with_a_secret_does_not_tell_it(do):
    with pytest.raises(InvalidInput) as refused:
        do("secrets.set", "token", "hush" * 20_000)
    assert "hush" not in str(refused.value) + str(refused.value.__cause__)
