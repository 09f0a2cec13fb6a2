"""Numbers for Prometheus: as its own parser reads them, and true."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.server.serving import Serving, serving

from steep.compute.contract import Device
from steep.server.failure import Ending
from steep.server.loops.all import Loops
from steep.spec.api.attempts import ReportsRequest
from steep.spec.job import JobSpec
from steep.spec.reports import CheckpointReport, StepReport
from steep.spec.states import Reason

Numbers = Callable[..., dict[tuple[str, ...], float]]
SECTION = {
    "steep_queue_jobs", "steep_queue_longest_wait_seconds", "steep_queue_wait_seconds", "steep_attempts",
    "steep_job_tokens_per_second", "steep_tokens_per_second", "steep_job_mfu", "steep_checkpoint_stall_seconds",
    "steep_checkpoints_saved", "steep_stored_bytes", "steep_lease_takeovers", "steep_attempts_fenced", "steep_jobs",
    "steep_devices_lent",
}  # fmt: skip


@pytest.fixture
def house(tmp_path: Path, place: Path) -> Iterator[Serving]:
    with serving(tmp_path / "data", roots=(place,)) as house:
        yield house


@pytest.fixture
def numbers(house: Serving) -> Numbers:
    """By the values of its labels, what a metric says now."""

    def read(name: str) -> dict[tuple[str, ...], float]:
        with house.http(house.key("viewer")) as http:
            families = list(text_string_to_metric_families(http.get("/metrics").text))
        assert {family.name for family in families} >= SECTION
        return {
            tuple(sample.labels.values()): sample.value
            for family in families
            if family.name == name
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    return read


def test_all_numbers_are_true(house: Serving, numbers: Numbers, tiny: Callable[..., dict[str, Any]]) -> None:
    store, now = house.service.store, time.time()

    def submit(ago: float) -> str:
        return store.jobs.submit(JobSpec.model_validate(tiny()), now - ago)[0].id

    waiting, held, quick, slow = submit(100), submit(50), submit(30), submit(90)
    store.jobs.request_stop(held, Reason.PAUSE_REQUESTED, "", now)
    tokens = {}
    for place, (job, speed) in enumerate([(quick, 500.0), (slow, 1500.0)]):
        device = Device(f"cpu-{place}", "cpu", "CPU", 1)
        tokens[job] = store.attempts.begin(job, "local", [device], now, lease_seconds=60).token
        reports = (
            StepReport(
                sequence=0, step=1, tokens_seen=10, loss=1, learning_rate=1, gradient_norm=1, step_seconds=1,
                tokens_per_second=speed, mfu=0.4 if job == slow else None,
            ),
            CheckpointReport(sequence=1, step=1, event="saved", size_bytes=1000, stall_seconds=0.25),
        )  # fmt: skip
        store.attempts.record_reports(job, 1, tokens[job], ReportsRequest(reports=reports), now, lease_seconds=60)
    store.attempts.finish(quick, 1, Ending(0), now)

    assert numbers("steep_queue_jobs") == {(): 1}
    assert numbers("steep_queue_longest_wait_seconds")[()] == pytest.approx(100, abs=10)
    assert numbers("steep_queue_wait_seconds") == pytest.approx({("0.5",): 30, ("0.9",): 90, ("1",): 90}, abs=0.1)
    assert numbers("steep_attempts") == {("working", "running"): 1, ("completed", "succeeded"): 1}
    assert numbers("steep_job_tokens_per_second") == {(slow, "default"): 1500}
    assert numbers("steep_tokens_per_second") == {(): 1500}
    assert numbers("steep_job_mfu") == {(slow, "default"): 0.4}
    assert numbers("steep_checkpoint_stall_seconds") == {(): 0.5}
    assert numbers("steep_checkpoints_saved") == {(): 2}
    assert numbers("steep_stored_bytes") == {("default",): 2000}
    assert numbers("steep_jobs")[("queued",)] == 2
    assert numbers("steep_devices_lent") == {(): 1}
    store.attempts.revoke(slow, 1, "silent", now)
    assert numbers("steep_attempts_fenced") == {(): 1}
    assert waiting


def test_a_takeover_is_counted(house: Serving, numbers: Numbers) -> None:
    loops = house.service.store.loops
    assert loops.acquire("scheduler", "one", 100.0, lease_seconds=5)
    assert numbers("steep_lease_takeovers")[("scheduler",)] == 0
    assert loops.acquire("scheduler", "one", 104.0, lease_seconds=5)
    assert loops.acquire("scheduler", "two", 200.0, lease_seconds=5)
    assert numbers("steep_lease_takeovers")[("scheduler",)] == 1


def test_every_loop_that_one_replica_acts_for_is_counted(house: Serving, numbers: Numbers) -> None:
    alone = {(loop.name,) for loop in Loops(house.service)._all if loop._alone}
    assert set(numbers("steep_lease_takeovers")) == alone
