"""Training with a line to a server: the same weights as without one, whatever the line does; orders and fences are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.client.service import Service, busy, lost, slow, unread
from tests.train.conftest import base, datasets, documents, make_setup
from tests.train.helpers import MakeSetup, assert_equal, weights_of
from tests.worker.ear import TOKEN, Ear, wait_for

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.fence import Fence
from steep.artifacts.rundir import RunDirectory
from steep.spec.errors import EXIT_STOPPED, Fenced, Stopped
from steep.spec.reports import StepReport
from steep.train.observer import Silent
from steep.train.setup import TrainingSetup
from steep.train.trainer import train
from steep.worker import sender as sender_module
from steep.worker.attempt import Attempt
from steep.worker.reports import RunReports
from steep.worker.sender import Sender
from steep.worker.stop import StopRequest

__all__ = ["base", "datasets", "documents", "make_setup"]

STEPS = 20


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steep.client.backoff.FIRST_SECONDS", 0.01)
    monkeypatch.setattr(sender_module, "POLL_SECONDS", 0.01)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.stop()


@pytest.fixture
def ear(service: Service) -> Ear:
    return Ear(service)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "line", attempt=1)


@pytest.fixture
def setup(make_setup: MakeSetup, run: RunDirectory) -> TrainingSetup:
    """A training whose checkpoints pass the run's fence, as the worker's do."""
    return make_setup(checkpoints=run.catalog(), checkpoint_every_steps=4)


class Reports(RunReports):
    """Those of a worker, with which something happens at some steps."""

    def __init__(self, run: RunDirectory) -> None:
        super().__init__(run.reports_file, run.fence.check)
        self.at: dict[int, Callable[[], None]] = {}

    def step(self, report: StepReport) -> None:
        super().step(report)
        self.at.pop(report.step, lambda: None)()


@contextmanager
def reporting(
    run: RunDirectory, service: Service, left: list[str] | None = None
) -> Iterator[tuple[Reports, StopRequest]]:
    """What training talks to when it is part of an attempt."""
    leave = pytest.fail if left is None else left.append
    sender, reports = Sender(run, Attempt("job-0", 1, service.address, TOKEN), str, leave), Reports(run)
    sender.start()
    try:
        yield reports, StopRequest(asked=sender.asked)
    finally:
        reports.close()
        sender.close()


def test_the_weights_are_the_same_with_and_without_a_server(
    make_setup: MakeSetup, setup: TrainingSetup, ear: Ear, service: Service, run: RunDirectory
) -> None:
    """Though the line is bad, and the server goes in the middle and comes back near the end."""
    alone = make_setup("alone", checkpoint_every_steps=4)
    train(alone, Silent())
    service.faults = [None, lost, busy(503), slow(0.05), unread, None, lost]
    with reporting(run, service) as (reports, stop):
        reports.at = {10: service.stop, 18: service.start}
        train(setup, reports, stop)
    assert_equal(weights_of(setup, STEPS), weights_of(alone, STEPS))
    assert [one["sequence"] for one in ear.reports] == list(range(len(ear.reports)))
    assert [one["step"] for one in ear.reports if one["kind"] == "step"] == list(range(1, STEPS + 1))
    assert len(ear.reports) == run.reports_file.read_bytes().count(b"\n")


def test_a_pause_saves_a_checkpoint_and_the_next_attempt_goes_on(
    make_setup: MakeSetup, setup: TrainingSetup, ear: Ear, service: Service, run: RunDirectory
) -> None:
    alone = make_setup("alone", checkpoint_every_steps=4)
    train(alone, Silent())
    with reporting(run, service) as (reports, stop):

        def pause() -> None:
            ear.directive = "pause"
            wait_for(lambda: stop() is not None)

        reports.at[6] = pause
        with pytest.raises(Stopped, match="step 6 of 20: the service asks to pause") as stopped:
            train(setup, reports, stop)
    assert stopped.value.exit_code == EXIT_STOPPED
    assert setup.checkpoints.steps()[-1] == 6
    ear.directive = "none"
    with reporting(run, service) as (reports, stop):
        train(setup, reports, stop)
    assert_equal(weights_of(setup, STEPS), weights_of(alone, STEPS))
    assert [one["step"] for one in ear.reports if one["kind"] == "step"] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("how", ["by the server", "by the file"])
def test_a_fenced_training_commits_nothing_more(
    setup: TrainingSetup, ear: Ear, service: Service, run: RunDirectory, how: str
) -> None:
    left: list[str] = []
    with reporting(run, service, left) as (reports, stop):

        def fence() -> None:
            if how == "by the file":
                Fence(run.fence.path).move(2)
            else:
                ear.next_attempt()
                wait_for(lambda: left != [])

        reports.at[6] = fence
        with pytest.raises(Fenced, match="attempt 1 may write nothing more"):
            train(setup, reports, stop)
    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            thread.join(20)
    assert max(CheckpointCatalog(run.checkpoints).steps()) <= 4
    reported = [one["step"] for one in ear.reports if one["kind"] == "step"]
    assert max(reported, default=0) <= 6
