"""What users are told beforehand: when a job will begin, how long it takes, what it costs, and on what that is based."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.serving import Serving, serving

from steep import Client
from steep.cli.service.cards import what
from steep.compute.contract import Capacity, Device, DeviceState, Order, WorkerStatus
from steep.planning.estimate import base_shape
from steep.planning.pace import TYPICAL_MFU
from steep.server.admission import PACKAGED
from steep.server.failure import Ending
from steep.server.limits import Prices
from steep.server.places import QueuePlaces
from steep.spec.api.attempts import ReportsRequest
from steep.spec.api.jobs import Plan
from steep.spec.devices import peak_of
from steep.spec.job import JobSpec
from steep.spec.reports import StepReport

Spec = dict[str, Any]
MakeSpec = Callable[..., Spec]
H100 = "NVIDIA H100 80GB HBM3"
BASE = str(PACKAGED / "tiny-base")


class Machine:
    """A backend with devices that are none: what is asked of it here is what there is."""

    name = "local"

    def __init__(self, *devices: Device) -> None:
        self.devices = devices

    def capacity(self) -> Capacity:
        return Capacity(tuple(map(DeviceState, self.devices)))

    def submit(self, order: Order) -> str:
        raise AssertionError("nothing is started here")

    def status(self, handle: str) -> WorkerStatus:
        return WorkerStatus("running")

    def cancel(self, handle: str, *, grace_seconds: float) -> None: ...

    def logs(self, handle: str, stream: str, offset: int) -> bytes:
        return b""


SLOT = Device("cpu-0", "cpu", "a processor", 64 << 30)
GPU = Device("gpu-0", "gpu", H100, 80 << 30)


@pytest.fixture(scope="module", params=[SLOT, GPU], ids=["cpu", "gpu"])
def device(request: pytest.FixtureRequest) -> Device:
    return request.param


@pytest.fixture
def house(tmp_path: Path, place: Path, device: Device) -> Iterator[Serving]:
    prices = Prices({"H100": 2.5}, currency="EUR")
    with serving(tmp_path / "data", {"local": Machine(device)}, roots=(place,), prices=prices) as house:
        yield house


@pytest.fixture
def client(house: Serving) -> Iterator[Client]:
    with house.client() as client:
        yield client


@pytest.fixture
def spec(tiny: MakeSpec) -> MakeSpec:
    """Jobs with a base that others may have had too."""

    def make(name: str = "tiny", **service: Any) -> Spec:
        made = tiny(name, **service)
        made["base"] = BASE
        made["training"].pop("precision")
        return made

    return make


def begin(house: Serving, job: str, device: Device, **step: Any) -> str:
    """The job's worker works, and has made a step."""
    store, now = house.service.store, time.time()
    begun = store.attempts.begin(job, "local", [device], now - 0.1, lease_seconds=60)
    report = StepReport(
        time=now, sequence=0, loss=3.0, learning_rate=1e-3, gradient_norm=1.0,
        **{"step": 10, "total_steps": 110, "tokens_seen": 2560, "step_seconds": 2.0, "tokens_per_second": 5000.0} | step,
    )  # fmt: skip
    store.attempts.record_reports(job, 1, begun.token, ReportsRequest(reports=(report,)), now, lease_seconds=60)
    return begun.token


def told(plan: Plan, field: str) -> dict[str, str]:
    return next(one for one in plan.decisions if one["field"] == field)


# ------------------------------------------------------------------------------------------------------ when it begins


def test_a_waiting_job_tells_when_it_will_probably_begin(
    house: Serving, client: Client, device: Device, spec: MakeSpec
) -> None:
    running = client.jobs.create(spec("first")).id
    begin(house, running, device)  # 100 steps of 2 s are left
    waiting = client.jobs.create(spec("second")).id
    behind = client.jobs.create(spec("third")).id
    view = client.jobs.detail(waiting)
    assert view.position == 1
    assert view.estimated_start == pytest.approx(time.time() + 200, abs=5)
    assert "may begin in about 3 min" in what(view)
    assert [one.view.estimated_start for one in client.jobs.list(name="second")] == [view.estimated_start]
    assert client.jobs.detail(behind).estimated_start is None, "nobody knows how long the second takes"
    assert client.jobs.detail(running).estimated_start is None
    assert client.jobs.pause(waiting).view.estimated_start is None


def test_jobs_that_ended_tell_how_long_those_ahead_will_take(
    house: Serving, client: Client, device: Device, spec: MakeSpec
) -> None:
    store, done = house.service.store, client.jobs.create(spec("done")).id
    begin(house, done, device)
    store.attempts.finish(done, 1, Ending(0), time.time() + 600)
    first, second = (client.jobs.create(spec(name)).id for name in ("one", "two"))
    assert client.jobs.detail(first).estimated_start == pytest.approx(time.time(), abs=5)
    assert client.jobs.detail(second).estimated_start == pytest.approx(time.time() + 600, abs=5)


# ------------------------------------------------------------------------------------------- how long, and how much


def test_a_dry_run_tells_time_and_cost_by_what_was_measured(
    house: Serving, client: Client, device: Device, spec: MakeSpec
) -> None:
    ran = client.jobs.create(spec("measured")).id
    begin(house, ran, device, tokens_per_second=1000.0)
    plan = client.jobs.plan(spec("next"))
    assert plan.tokens == 60 * 256
    assert plan.seconds == pytest.approx(60 * 256 / 1000 / 0.95)
    assert f"1,000 tokens/s, which {ran} made with this base on 1 x {device.model}" in told(plan, "seconds")["reason"]
    if device is GPU:
        assert plan.cost == pytest.approx(plan.seconds * 2.5 / 3600)
        assert told(plan, "cost")["reason"] == f"2.50 EUR an hour for 1 x {H100}"
    else:
        assert (plan.cost, told(plan, "cost")["value"]) == (0, "nothing")
    other = spec("other-way")
    other["training"]["sequence_tokens"] = 128
    assert ran not in told(client.jobs.plan(other), "seconds")["reason"], "it would train in another way"


def test_without_a_measurement_a_known_gpu_is_estimated_and_a_processor_is_not(
    client: Client, device: Device, spec: MakeSpec
) -> None:
    plan = client.jobs.plan(spec())
    if device is SLOT:
        assert plan.seconds is None
        assert told(plan, "seconds") == {
            "field": "seconds", "value": "unknown",
            "reason": "no job with this base has shown yet how quick a processor is",
        }  # fmt: skip
        return
    shape, _ = base_shape(JobSpec.model_validate(spec()))
    peak = peak_of(H100)
    assert shape is not None
    assert peak is not None
    assert plan.seconds == pytest.approx(60 * 256 * 6 * shape["parameters"] / (TYPICAL_MFU * peak) / 0.95)
    assert "35% of what 1 x NVIDIA H100 80GB HBM3 can do at most" in told(plan, "seconds")["reason"]


def test_a_budget_in_time_costs_that_time(client: Client, device: Device, spec: MakeSpec) -> None:
    values = spec()
    values["training"]["budget"] = "2 h"
    plan = client.jobs.plan(values)
    assert plan.seconds == 7200
    assert told(plan, "seconds")["reason"] == "as given"
    assert plan.cost == (5.0 if device is GPU else 0.0)


@pytest.mark.parametrize("device", [Device("gpu-0", "gpu", "Some Card 9", 16 << 30)], ids=["unknown"], indirect=False)
def test_a_card_that_nobody_knows_has_neither_time_nor_price(client: Client, spec: MakeSpec) -> None:
    plan = client.jobs.plan(spec())
    assert (plan.valid, plan.seconds, plan.cost) == (True, None, None)
    assert told(plan, "cost") == {
        "field": "cost", "value": "unknown",
        "reason": "the server has no price for Some Card 9; its operator gives one with --gpu-price",
    }  # fmt: skip


def test_who_asks_for_places_finds_them_worked_out_by_the_scheduler(
    house: Serving, client: Client, spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, now = house.service.store, time.time()
    job = client.jobs.create(spec("waits")).id
    places = QueuePlaces(store, lambda: [])
    places.put([store.jobs.get(job, now)], now)
    places.refresh(now + 3, [])
    monkeypatch.setattr(store.queue, "snapshot", None)  # nobody looks for himself now
    (view,) = places.put([store.jobs.get(job, now)], now + 6)
    assert view.position == 1


def test_places_in_a_long_queue_may_be_some_seconds_old(
    house: Serving, client: Client, spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, now = house.service.store, time.time()
    job = client.jobs.create(spec("waits-long")).id
    view = store.jobs.get(job, now)
    looked: list[float] = []
    snapshot = store.queue.snapshot
    monkeypatch.setattr(store.queue, "snapshot", lambda at, devices=(): looked.append(at) or snapshot(at, devices))
    places = QueuePlaces(store, lambda: [])
    for at in (now, now + 5):
        places.put([view], at)
    assert looked == [now, now + 5], "a short queue is looked at again"
    monkeypatch.setattr("steep.server.places.NUM_CHEAP", 0)
    for at in (now + 6, now + 8, now + 16, now + 18):
        places.put([view], at)
    assert looked == [now, now + 5, now + 18]
    for at in (
        now + 19,
        now + 20,
        now + 24,
        now + 26,
        now + 30,
        now + 34,
    ):  # the scheduler keeps them fresh, and no fresher
        places.refresh(at, [])
        places.put([view], at)
    assert looked == [now, now + 5, now + 18, now + 26]
    places.put([view], now - 3600)  # the clock was set back
    assert looked[-1] == now - 3600
