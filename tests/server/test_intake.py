"""Reports over HTTP and how they are taken in: together when many come at once, each answered by itself, and wrong ones refused."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.contract.makers import begun, gpus, step, submitted
from tests.server.serving import Serving, serving

from steep.server import workerline
from steep.server.intake import Intake
from steep.server.routes.answers import answer as answer_with
from steep.server.store.attempts import Begun, Told
from steep.spec.api.attempts import ReportsAnswer, ReportsRequest
from steep.spec.errors import Fenced, ServerUnavailable


def told(name: str) -> Told:
    return Told(name, 1, "token", ReportsRequest())


def test_those_that_come_while_others_are_taken_in_go_together() -> None:
    batches: list[list[str]] = []
    goes_on = threading.Event()

    def record(waiting: Sequence[Told]) -> list[ReportsAnswer | Exception]:
        batches.append([one.job_id for one in waiting])
        goes_on.wait(10)
        return [
            Fenced("fenced") if one.job_id == "b" else ReportsAnswer(next_report=ord(one.job_id), lease_seconds=1.0)
            for one in waiting
        ]

    async def work() -> list[Any]:
        intake = Intake(record)
        asked = [asyncio.create_task(intake.take(told("a")))]
        while not batches:
            await asyncio.sleep(0.01)
        asked += [asyncio.create_task(intake.take(told(name))) for name in "bcd"]
        await asyncio.sleep(0.05)
        asked[2].cancel()  # its client has gone
        goes_on.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.to_thread(intake.end)
        return answers

    first, fenced, cancelled, last = asyncio.run(work())
    assert batches == [["a"], ["b", "c", "d"]]
    assert (first.next_report, last.next_report) == (ord("a"), ord("d"))
    assert isinstance(fenced, Fenced)
    assert isinstance(cancelled, asyncio.CancelledError)


def test_what_goes_wrong_with_all_is_told_to_all_and_the_next_are_taken_in() -> None:
    is_away = True

    def record(waiting: Sequence[Told]) -> list[ReportsAnswer | Exception]:
        if is_away:
            raise ServerUnavailable("the database does not answer")
        return [ReportsAnswer(next_report=7, lease_seconds=1.0) for _ in waiting]

    async def work() -> int:
        nonlocal is_away
        intake = Intake(record)
        with pytest.raises(ServerUnavailable):
            await intake.take(told("a"))
        is_away = False
        answer = await intake.take(told("a"))
        await asyncio.to_thread(intake.end)
        return answer.next_report

    assert asyncio.run(work()) == 7


# --------------------------------------------------------------------------------------------------------------- over HTTP


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("intake")) as house:
        yield house


@pytest.fixture
def attempt(house: Serving, request: pytest.FixtureRequest) -> Begun:
    store, now = house.service.store, time.time()
    number = abs(hash(request.node.name)) % 10_000
    return begun(store, submitted(store, now).id, now, gpus(number))


def path_of(attempt: Begun) -> str:
    return f"/api/v1/attempts/{attempt.job_id}/{attempt.number}/reports"


def test_reports_in_good_order_take_the_short_way(
    house: Serving, attempt: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    short: list[object] = []
    monkeypatch.setattr(workerline, "answer", lambda model: (short.append(model), answer_with(model))[1])
    body = ReportsRequest(reports=(step(1, loss=float("nan")),)).model_dump_json()
    with house.http(attempt.token) as http:
        answer = http.post(path_of(attempt), content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert len(short) == 1
    assert answer.json()["next_report"] == 1
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert house.service.store.jobs.get(attempt.job_id, time.time()).progress.step == 1


@pytest.mark.parametrize(
    ("body", "kind", "status", "field"),
    [
        (b'{"reports": [{"kind": "step"}]}', "application/json", 422, "reports.0"),
        (b'{"reports": [', "application/json", 422, "body"),
        (b'{"report": []}', "application/json", 422, "report"),
        (b"{}", "text/plain", 422, None),
    ],
    ids=["incomplete", "cut off", "unknown key", "not JSON"],
)
def test_reports_that_are_none_are_told_what_is_wrong(
    house: Serving, attempt: Begun, body: bytes, kind: str, status: int, field: str | None
) -> None:
    with house.http(attempt.token) as http:
        answer = http.post(path_of(attempt), content=body, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert field is None or answer.json()["field"].startswith(field)


def test_who_has_no_token_or_another_ones_reports_nothing(house: Serving, attempt: Begun) -> None:
    with httpx.Client(base_url=house.address) as http:
        assert http.post(path_of(attempt), json={}).status_code == 401
    with house.http("not-the-token") as http:
        answer = http.post(path_of(attempt), json={})
    assert (answer.status_code, answer.json()["code"]) == (409, "fenced")
    with house.http(attempt.token) as http:
        assert http.post(path_of(attempt), json={}).status_code == 200
        house.service.store.attempts.revoke(attempt.job_id, 1, "is fenced", time.time())
        assert http.post(path_of(attempt), json={}).status_code == 409


def test_a_path_that_names_no_attempt_is_left_to_the_route(house: Serving, attempt: Begun, tmp_path: Path) -> None:
    with house.http(attempt.token) as http:
        for number in ("0", "x", "99999999999"):
            answer = http.post(f"/api/v1/attempts/{attempt.job_id}/{number}/reports", json={})
            assert answer.status_code == 422, number
