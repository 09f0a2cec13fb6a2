"""What tests of training share: an observer that remembers, a request to stop, a look at weights."""

import itertools
from collections.abc import Callable

import torch

from steep.spec.reports import CheckpointReport, EvaluationReport, NoticeReport, StepReport
from steep.train.checkpoint import load_weights
from steep.train.observer import Silent
from steep.train.setup import TrainingSetup

MakeSetup = Callable[..., TrainingSetup]


class Recorder(Silent):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.steps: list[StepReport] = []
        self.checkpoints: list[CheckpointReport] = []
        self.evaluations: list[EvaluationReport] = []
        self.notices: list[NoticeReport] = []

    def step(self, report: StepReport) -> None:
        self.steps.append(report)

    def checkpoint(self, report: CheckpointReport) -> None:
        self.checkpoints.append(report)

    def evaluation(self, report: EvaluationReport) -> None:
        self.evaluations.append(report)

    def notice(self, report: NoticeReport) -> None:
        self.notices.append(report)


def stop_after(calls: int) -> Callable[[], str | None]:
    """A request to stop that comes after so many steps."""
    counter = itertools.count(1)
    return lambda: "SIGTERM was received" if next(counter) >= calls else None


def weights_of(setup: TrainingSetup, step: int) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in load_weights(setup.checkpoints, step).items()}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name
