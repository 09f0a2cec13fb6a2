"""Requests reach the server once in effect, whatever happens on the way; errors come back as they were meant."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from tests.client.conftest import Do
from tests.client.service import KEY, Fault, Reply, Seen, Service, busy, job_view, lost, ok, page, problem, slow, unread

from steep.client.backoff import Backoff
from steep.client.client import Client
from steep.spec.errors import (
    EXIT_INVALID,
    Conflict,
    Forbidden,
    InvalidCorpus,
    InvalidInput,
    InvalidSpec,
    NotFound,
    ServerUnavailable,
    SteepError,
    Unauthorized,
)
from steep.spec.states import State

SPEC = {"name": "handbook", "base": "hf://org/base", "corpus": {"sources": ["/text"]}}


class Orders:
    """Makes jobs, one for each idempotency key."""

    def __init__(self, service: Service) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        service.route("POST", "/jobs", self.create)

    def create(self, seen: Seen) -> Reply:
        key = seen.headers["idempotency-key"]
        self.made.setdefault(key, job_view(len(self.made), spec=seen.json()["spec"]))
        return ok(self.made[key], 201)


@pytest.mark.parametrize(
    "faults",
    [
        [],
        [lost],
        [unread],
        [busy(503), busy(502), busy(504)],
        [lost, lost, busy(503, retry_after="0.1"), unread],
        [busy(429, retry_after="0.2")],
    ],
)
def test_a_job_is_made_once(do: Do, service: Service, faults: list[Fault]) -> None:
    orders = Orders(service)
    service.faults = list(faults)
    job = do("jobs.create", SPEC)
    assert job.id == "job-0"
    assert len(orders.made) == 1
    assert len(service.seen) == len(faults) + 1
    assert len({seen.headers["idempotency-key"] for seen in service.seen}) == 1
    assert orders.made[service.seen[0].headers["idempotency-key"]]["spec"]["name"] == "handbook"


def test_each_order_is_its_own_unless_a_key_says_otherwise(client: Client, service: Service) -> None:
    orders = Orders(service)
    assert [client.jobs.create(SPEC).id for _ in range(2)] == ["job-0", "job-1"]
    assert [client.jobs.create(SPEC, idempotency_key="mine").id for _ in range(2)] == ["job-2", "job-2"]
    assert len(orders.made) == 3


def test_a_server_that_comes_back_in_time_is_waited_for(client: Client, service: Service) -> None:
    Orders(service)
    service.stop()
    threading.Timer(0.3, service.start).start()
    assert client.jobs.create(SPEC).id == "job-0"


def test_a_server_that_stays_away_is_named_with_a_cure(service: Service) -> None:
    service.stop()
    with Client(service.address, KEY, patience_seconds=0.3) as client:
        started = time.monotonic()
        with pytest.raises(ServerUnavailable, match="cannot be reached") as away:
            client.jobs.get("job-0")
        assert 0 < time.monotonic() - started < 5
    assert away.value.where == service.address
    assert "steep up" in str(away.value.cure)


def test_what_the_server_asks_to_wait_is_waited(client: Client, service: Service) -> None:
    Orders(service)
    service.faults = [busy(429, retry_after="0.4")]
    started = time.monotonic()
    client.jobs.create(SPEC)
    assert time.monotonic() - started >= 0.4


def test_nobody_waits_longer_than_patience_allows(client: Client, service: Service) -> None:
    service.faults = [busy(429, retry_after="3600")]
    started = time.monotonic()
    with pytest.raises(ServerUnavailable, match="answered 429"):
        client.jobs.create(SPEC)
    assert time.monotonic() - started < 5
    assert len(service.seen) == 1


@pytest.mark.parametrize("fault", [lost, busy(502)])
def test_a_deletion_that_may_have_been_done_is_not_sent_again(do: Do, service: Service, fault: Fault) -> None:
    """The second one would find nothing there, and say so: the user would learn of a failure that was none."""
    service.route("DELETE", "/jobs/(.+)", lambda seen, job: ok({"freed_bytes": 7}))
    service.faults = [fault]
    with pytest.raises(ServerUnavailable):
        do("jobs.delete", "job-0")
    assert len(service.seen) == 1
    service.faults = [busy(503)]
    assert do("jobs.delete", "job-0").freed_bytes == 7


def test_a_server_that_is_slow_is_left_to_finish(client: Client, service: Service) -> None:
    orders = Orders(service)
    service.faults = [slow(0.5)]
    client.jobs.create(SPEC)
    assert len(service.seen) == len(orders.made) == 1


def test_a_server_that_says_nothing_is_given_up(service: Service) -> None:
    Orders(service)
    service.faults = [slow(3.0)]
    with Client(service.address, KEY, patience_seconds=5.0, timeout_seconds=0.3) as client:
        assert client.jobs.create(SPEC).id == "job-0"
    assert len(service.seen) == 2


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        (problem(401, "t", code="unauthorized"), Unauthorized, "unauthorized"),
        (problem(403, "t", code="forbidden"), Forbidden, "forbidden"),
        (problem(404, "t", code="not_found"), NotFound, "not_found"),
        (problem(409, "t", code="conflict"), Conflict, "conflict"),
        (problem(422, "t", code="invalid_spec"), InvalidSpec, "invalid_spec"),
        (problem(422, "t", code="invalid_corpus"), InvalidCorpus, "invalid_corpus"),
        (problem(422, "t", code="quota_exceeded"), InvalidInput, "quota_exceeded"),
        (problem(413, "t"), InvalidInput, "invalid_input"),
        (problem(500, "t"), SteepError, "failed"),
        (Reply(404, b"nothing"), NotFound, "not_found"),
        (Reply(500, b"\xff\x00"), SteepError, "failed"),
        (Reply(302, b"", {"Location": "http://elsewhere.example/"}), InvalidInput, "invalid_input"),
    ],
)
def test_problems_become_errors_of_the_tree(
    client: Client, service: Service, reply: Reply, kind: type[SteepError], code: str
) -> None:
    service.route("GET", "/jobs/(.+)", lambda seen, job: reply)
    with pytest.raises(kind) as caught:
        client.jobs.get("job-0")
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert len(service.seen) == 1  # sending it again cannot help


def test_an_error_says_what_where_and_how_to_mend_it(do: Do, service: Service) -> None:
    told = problem(
        422, "the spec is not valid", detail="there is no such file", code="invalid_spec",
        field="corpus.sources.0.path", cure="Upload it with `steep files upload`.",
    )  # fmt: skip
    service.route("POST", "/jobs", lambda seen: told)
    with pytest.raises(InvalidSpec) as caught:
        do("jobs.create", SPEC)
    error = caught.value
    assert (error.what, error.where) == ("there is no such file", "corpus.sources.0.path")
    assert error.cure == "Upload it with `steep files upload`."
    assert error.exit_code == EXIT_INVALID


def test_a_wrong_key_is_said_at_once(service: Service) -> None:
    with Client(service.address, "another") as client, pytest.raises(Unauthorized) as caught:
        client.jobs.get("job-0")
    assert "steep login" in str(caught.value.cure)
    assert "another" not in repr(client) + str(caught.value)


def test_an_answer_that_is_none_names_the_field(client: Client, service: Service) -> None:
    service.route("GET", "/jobs/(.+)", lambda seen, job: ok({"id": "job-0"}))
    with pytest.raises(SteepError, match="answer is not what this client knows: name"):
        client.jobs.get("job-0")


def test_fields_of_a_newer_server_are_passed_over(client: Client, service: Service) -> None:
    service.route("POST", "/jobs/(.+)/pause", lambda seen, job: ok(job_view(0, mood="good")))
    assert client.jobs.pause("job-0").id == "job-0"


def test_lists_are_fetched_page_by_page_as_they_are_needed(client: Client, service: Service) -> None:
    jobs = [job_view(number) for number in range(450)]
    service.route("GET", "/jobs", lambda seen: page(jobs, seen.query))
    found = client.jobs.list(state=["queued", State.RUNNING], tag="a&b=c", paused=False)
    assert next(found).id == "job-0"
    assert len(service.seen) == 1
    assert [job.id for job in found] == [f"job-{number}" for number in range(1, 450)]
    assert [seen.query["page"] for seen in service.seen] == ["1", "2", "3"]
    asked = {"state": "queued,running", "tag": "a&b=c", "paused": "false", "page_size": "200"}
    assert all({**seen.query, **asked} == seen.query for seen in service.seen)


@pytest.mark.parametrize("name", ["../keys", "a/b", "a?b=c", "ü €", "%2e%2e"])
def test_a_name_leads_nowhere_else(client: Client, service: Service, name: str) -> None:
    service.route("GET", "/jobs/([^/]+)/results", lambda seen, job: problem(404, job, detail=job))
    with pytest.raises(NotFound) as caught:
        client.jobs.results(name)
    assert caught.value.what == name


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_no_name_is_sent_that_is_a_way(client: Client, service: Service, name: str) -> None:
    with pytest.raises(InvalidInput):
        client.jobs.delete(name)
    assert service.seen == []


def test_pauses_grow_to_a_cap_and_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steep.client.backoff.FIRST_SECONDS", 1.0)
    backoff = Backoff(longest_seconds=8.0)
    pauses = [backoff.pause_seconds() for _ in range(50)]
    for pause, most in zip(pauses, (1.0, 2.0, 4.0, *[8.0] * 47), strict=True):
        assert most / 2 <= pause <= most
    assert len({round(pause, 6) for pause in pauses[3:]}) > 10
    backoff.reset()
    assert backoff.pause_seconds() <= 1.0
