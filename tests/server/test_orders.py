"""An order reaches a worker at once, whatever it is about and whichever replica it was given to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.client.service import Service as Standin
from tests.server.serving import Serving, serving, wait_for
from tests.worker.ear import TOKEN, Ear

from steep.artifacts.rundir import RunDirectory
from steep.compute.contract import Device
from steep.server.orders import ASK_SECONDS, OrderDesk
from steep.server.store.orders import AttemptName
from steep.server.store.store import Store
from steep.spec.api.attempts import OrderAnswer
from steep.spec.errors import Fenced
from steep.spec.job import JobSpec
from steep.spec.states import Reason
from steep.worker import listener as listener_module
from steep.worker.attempt import Attempt
from steep.worker.listener import Listener
from steep.worker.sender import sending

SLOT = Device("cpu-0", "cpu", "CPU", 1 << 30)
SOON_SECONDS = 2.0


@pytest.fixture
def house(tmp_path: Path, place: Path) -> Iterator[Serving]:
    with serving(tmp_path / "data", roots=(place,)) as house:
        yield house


@pytest.fixture
def attempt(house: Serving, tiny: Callable[..., dict[str, Any]]) -> Attempt:
    """The living attempt of a job; its lease is a minute, so that a heartbeat is sent every 20 s."""
    store, now = house.service.store, house.service.now()
    job, _ = store.jobs.submit(JobSpec.model_validate(tiny()), now)
    begun = store.attempts.begin(job.id, "local", [SLOT], now, lease_seconds=60)
    store.attempts.provisioned(job.id, begun.number, "handle", now)
    return Attempt(job.id, begun.number, house.address, begun.token)


def run_of(house: Serving, attempt: Attempt) -> RunDirectory:
    path = house.service.settings.run_directory(attempt.job)
    path.mkdir(exist_ok=True)
    return RunDirectory(path, attempt=attempt.number)


# ------------------------------------------------------------------------------------------------------- heard at once


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason.CANCEL_REQUESTED, "the service asks to end the job: Ada says so"),
        (Reason.PAUSE_REQUESTED, "the service asks to pause: Ada says so"),
        (Reason.PREEMPT_REQUESTED, "the service asks to make room: Ada says so"),
    ],
)
def test_an_idle_worker_hears_of_an_order_at_once(house: Serving, attempt: Attempt, reason: Reason, words: str) -> None:
    store = house.service.store
    with sending(run_of(house, attempt), attempt, {}) as asked:
        wait_for(lambda: store.jobs.get(attempt.job, time.time()).standing.state == "running")
        time.sleep(1.0)  # it has said everything, and waits
        other_replica = Store.open(house.service.settings.database_url)
        given = time.monotonic()
        other_replica.jobs.request_stop(attempt.job, reason, "Ada says so", time.time())
        wait_for(lambda: asked() is not None)
        took = time.monotonic() - given
        other_replica.close()
    print(f"heard {took:.2f} s after it was given")
    assert took < SOON_SECONDS
    assert asked() == words


def test_a_worker_that_is_fenced_while_it_waits_learns_it_at_once(house: Serving, attempt: Attempt) -> None:
    left: list[str] = []
    run = run_of(house, attempt)
    listener = Listener(run, attempt, left.append)
    listener.start()
    time.sleep(1.5)
    given = time.monotonic()
    house.service.store.attempts.revoke(attempt.job, attempt.number, "it was silent", time.time())
    wait_for(lambda: left != [])
    assert time.monotonic() - given < SOON_SECONDS
    assert listener.asked() is None
    with pytest.raises(Fenced):
        run.fence.check()


def test_an_order_that_is_there_already_is_answered_without_waiting(house: Serving, attempt: Attempt) -> None:
    house.service.store.jobs.request_stop(attempt.job, Reason.CANCEL_REQUESTED, "enough", time.time())
    url = f"/api/v1/attempts/{attempt.job}/{attempt.number}/orders"
    with house.http(attempt.token) as http:
        began = time.monotonic()
        assert http.get(url, params={"wait_seconds": 10}).json() == {
            "directive": "cancel",
            "directive_detail": "enough",
        }
        assert time.monotonic() - began < 5
    with house.http("another token") as http:
        assert http.get(url).json()["code"] == "fenced"
    with house.http(house.key("admin")) as http:
        assert http.get(url).status_code == 409, "no key of a person opens what is a worker's"


def test_a_server_that_ends_lets_those_go_who_wait(house: Serving, attempt: Attempt) -> None:
    url = f"/api/v1/attempts/{attempt.job}/{attempt.number}/orders"

    async def scenario() -> float:
        headers = {"Authorization": f"Bearer {attempt.token}"}
        async with httpx.AsyncClient(base_url=house.address, headers=headers, timeout=20) as http:
            asking = asyncio.create_task(http.get(url, params={"wait_seconds": 15}))
            await asyncio.sleep(0.5)
            began = time.monotonic()
            house.service.let_go()
            assert (await asking).json()["directive"] == "none"
            return time.monotonic() - began

    assert asyncio.run(scenario()) < SOON_SECONDS


# ------------------------------------------------------------------------------------------------ what waiting costs


def test_many_who_wait_cost_the_database_no_more_than_one() -> None:
    asked: list[float] = []
    standing: dict[AttemptName, OrderAnswer | None] = {}

    def ask() -> dict[AttemptName, OrderAnswer | None]:
        asked.append(time.monotonic())
        return dict(standing)

    async def scenario() -> list[OrderAnswer]:
        desk = OrderDesk(ask)
        waiting = [desk.wait_for(AttemptName("job", number), 1.5) for number in range(500)]
        tasks = [asyncio.create_task(one) for one in waiting]
        await asyncio.sleep(0.6)
        standing[AttemptName("job", 7)] = OrderAnswer(directive="pause")
        return await asyncio.gather(*tasks)

    began = time.monotonic()
    orders = asyncio.run(scenario())
    assert [place for place, order in enumerate(orders) if order.directive == "pause"] == [7]
    assert len(asked) <= 2 * (time.monotonic() - began) / ASK_SECONDS + 2


def test_nobody_asks_while_nobody_waits(house: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(house.service.order_desk, "_standing", lambda: asked.append(1) or {})
    time.sleep(3 * ASK_SECONDS)
    assert asked == []


def test_an_older_server_that_knows_no_orders_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(listener_module, "FIRST_SECONDS", 0.0)
    service = Standin()
    ear = Ear(service)
    run = RunDirectory(tmp_path / "run", attempt=1)
    run.path.mkdir()
    with sending(run, Attempt("job-0", 1, service.address, TOKEN), {}) as asked:
        wait_for(lambda: any("orders" in seen.path for seen in service.seen))
        time.sleep(0.3)
        assert asked() is None
        ear.directive = "pause"
        wait_for(lambda: asked() is not None)  # with its next heartbeat
    service.stop()
    assert len([seen for seen in service.seen if "orders" in seen.path]) == 1
    assert capsys.readouterr().err == ""
