"""Steep's trainer, measured: speed, memory, first step, checkpoints, losses.

Told: model, tokens (directories), device, precision, compiled, sequence_tokens, sequences_per_step, microbatch_sequences, steps,
warm_steps, total_steps, checkpoint_every_steps, schedule (of `train.schedule.Schedule`), scratch.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comparison.sides.clock import StepClock, save_values
from comparison.sides.said import Enough, answer, arguments
from steep.train.observer import Silent

if TYPE_CHECKING:
    from steep.artifacts.tokens import TokenDataset
    from steep.corpus.order import DataOrder
    from steep.spec.reports import CheckpointReport, NoticeReport, StepReport

SEED = 17


class Watch(Silent):
    """Reads the clock at each report, and ends the training when enough was seen."""

    def __init__(self, clock: StepClock, steps: int) -> None:
        self.clock = clock
        self.losses: list[float] = []
        self.step_seconds: list[float] = []
        self.saves: list[int] = []
        self.notices: list[str] = []
        self._steps = steps

    def step(self, report: StepReport) -> None:
        made = self.clock.step_ended()
        self.losses.append(report.loss)
        self.step_seconds.append(report.step_seconds)
        if made >= self._steps:
            raise Enough

    def checkpoint(self, report: CheckpointReport) -> None:
        if report.event == "saved":
            self.saves.append(report.step)

    def notice(self, report: NoticeReport) -> None:
        self.notices.append(report.message)

    def stalls(self) -> list[float]:
        """Seconds between two steps that belong to neither, after each step that was followed by a checkpoint."""
        ends = self.clock.ends
        between = [after - before for before, after in pairwise(ends)]
        return [between[step - 1] - self.step_seconds[step] for step in self.saves]


def data_order(dataset: TokenDataset, sequence_tokens: int) -> DataOrder:
    """The order in which the sequences come."""
    from steep.corpus.order import DataOrder, Stream

    stream = Stream(dataset.info.name, len(dataset), 1.0, dataset.info.fingerprint)
    return DataOrder([stream], sequence_tokens=sequence_tokens, seed=SEED)


def main() -> None:
    """Train for some steps and answer."""
    told = arguments()
    import torch

    from steep.artifacts.checkpoints import CheckpointCatalog
    from steep.artifacts.retention import RetentionPolicy
    from steep.artifacts.tokens import TokenDataset
    from steep.model.load import load_model
    from steep.train.schedule import Schedule
    from steep.train.setup import TrainingSetup
    from steep.train.trainer import train

    dataset = TokenDataset(Path(told["tokens"]))
    setup = TrainingSetup(
        load_model=lambda: load_model(told["model"]),
        device=torch.device(told["device"]),
        datasets={dataset.info.name: dataset},
        order=data_order(dataset, told["sequence_tokens"]),
        sequences_per_step=told["sequences_per_step"],
        microbatch_sequences=told["microbatch_sequences"],
        schedule=Schedule(**told["schedule"]),
        checkpoints=CheckpointCatalog(Path(told["scratch"]) / "checkpoints"),
        spec_fingerprint="benchmark",
        seed=SEED,
        precision=told["precision"],
        compile=told["compiled"],
        checkpoint_every_steps=told.get("checkpoint_every_steps"),
        retention=RetentionPolicy()
        if told.get("checkpoint_every_steps")
        else RetentionPolicy(keep_last=1, keep_best=0),
    )
    watch = Watch(StepClock(told["device"], told.get("steps_before_save", 0)), told["steps"])
    try:
        train(setup, watch)
    except Enough:
        report(setup.step_tokens, watch, told)
    else:
        raise RuntimeError("the schedule ended before enough was measured")


def report(step_tokens: int, watch: Watch, told: dict[str, Any]) -> None:
    """Answer with what was seen."""
    values = watch.clock.values(step_tokens, told["warm_steps"])
    if len(watch.saves) > 1:
        values |= save_values(watch.stalls(), watch.step_seconds, watch.saves)
    answer(values, {"loss": watch.losses}, {"notices": watch.notices})


if __name__ == "__main__":
    main()
