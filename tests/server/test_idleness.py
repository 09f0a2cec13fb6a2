"""How long GPUs did nothing, and what becomes of a job whose GPUs do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.shelving import Shelf

from steep.compute.contract import Device
from steep.server.idleness import idle_seconds
from steep.server.loops.limits import LimitsLoop
from steep.spec.api.attempts import DeviceSample, GpuSample, ReportsRequest
from steep.spec.events import EventKind
from steep.spec.job import JobSpec
from steep.spec.stages import Stage
from steep.spec.states import Reason, State


def sample(time: float, *percents: float, stage: Stage | None = Stage.TRAIN) -> DeviceSample:
    gpus = tuple(
        GpuSample(index=index, utilization_percent=percent, memory_used_bytes=1, memory_total_bytes=2)
        for index, percent in enumerate(percents)
    )
    return DeviceSample(time=time, stage=stage, gpus=gpus)


@pytest.mark.parametrize(
    ("samples", "seconds"),
    [
        ([], 0.0),
        ([sample(0, 0)], 0.0),
        ([sample(0, 0), sample(60, 0), sample(120, 4.9)], 120.0),
        ([sample(0, 0), sample(60, 5.0), sample(120, 0), sample(180, 0)], 60.0),
        ([sample(0, 0), sample(60, 0), sample(120, 90)], 0.0),
        ([sample(0, 0, 0), sample(60, 0, 80), sample(120, 0, 0)], 0.0),  # one of two works
        ([sample(0, 0), sample(60)], 0.0),  # nothing is known of GPUs
        ([sample(0), sample(60)], 0.0),  # it has none
        ([sample(0, 0, stage=Stage.PREPARE), sample(60, 0), sample(120, 0)], 60.0),  # text was prepared
        ([sample(0, 0), sample(60, 0, stage=Stage.PREPARE)], 0.0),
        ([sample(0, 0, stage=None), sample(60, 0, stage=None)], 60.0),  # of a worker that does not say
        ([sample(0, 0), sample(500, 0), sample(560, 0)], 60.0),  # between them it may have worked
    ],
)
def test_idle_is_what_all_gpus_have_been_until_now(samples: list[DeviceSample], seconds: float) -> None:
    assert idle_seconds(samples) == seconds


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    one = Shelf(tmp_path)
    yield one
    one.service.close()


def work(shelf: Shelf, stop_when_idle: float | None) -> tuple[str, str]:
    """A job at work on a GPU, and the token of its attempt."""
    service = {} if stop_when_idle is None else {"stop_when_idle": stop_when_idle}
    values = {"name": "idle", "base": "org/x", "corpus": {"sources": ["hf://org/x"]}, "service": service}
    job = shelf.store.jobs.submit(JobSpec.model_validate(values), shelf.now)[0].id
    number = len(shelf.store.attempts.living())
    gpu = Device(f"gpu-{number}", "gpu", "H100", 80 << 30)
    return job, shelf.store.attempts.begin(job, "none", [gpu], shelf.now, lease_seconds=1e6).token


def test_a_job_whose_gpu_idles_is_saved_and_held_where_it_asks_for_that(shelf: Shelf) -> None:
    wanting, other = work(shelf, 300.0), work(shelf, None)
    loop = LimitsLoop(shelf.service)

    def minute(percent: float) -> None:
        shelf.now += 60.0
        for job, token in (wanting, other):
            request = ReportsRequest(metrics=sample(shelf.now, percent))
            shelf.store.attempts.record_reports(job, 1, token, request, shelf.now, lease_seconds=1e6)
        loop.turn()

    def state(job: str) -> tuple[State, Reason]:
        standing = shelf.store.jobs.get(job, shelf.now).standing
        return standing.state, standing.reason

    for percent in (90.0, 0.0, 0.0, 0.0, 80.0, 0.0, 0.0, 0.0, 0.0, 0.0):
        minute(percent)
    assert state(wanting[0]) == (State.RUNNING, Reason.WORKING)  # four minutes at a time
    minute(0.0)
    minute(0.0)
    assert state(wanting[0]) == (State.STOPPING, Reason.DEVICES_IDLE)
    assert state(other[0]) == (State.RUNNING, Reason.WORKING)
    (told,) = shelf.events(wanting[0], EventKind.LIMIT_REACHED)
    assert told.message == "its GPUs have done nothing for 5 min"
    request = ReportsRequest()
    answer = shelf.store.attempts.record_reports(wanting[0], 1, wanting[1], request, shelf.now, lease_seconds=1e6)
    assert answer.directive == "pause"
