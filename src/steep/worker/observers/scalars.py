"""Reports as named numbers at a step: what every metrics service takes."""

from __future__ import annotations

from steep.spec.reports import (
    CheckpointReport,
    EvaluationReport,
    NoticeReport,
    ProgressReport,
    StageReport,
    StepReport,
)

_STEP_SCALARS = ("loss", "learning_rate", "gradient_norm", "tokens_per_second", "mfu", "peak_memory_bytes")


def step_scalars(report: StepReport) -> dict[str, float]:
    """`train/loss` and its siblings."""
    values = {f"train/{name}": getattr(report, name) for name in _STEP_SCALARS}
    return {name: float(value) for name, value in values.items() if value is not None}


def evaluation_scalars(report: EvaluationReport) -> dict[str, float]:
    """`domain/<name>` and `general/<name>`, in bits per byte."""
    return {
        **{f"domain/{name}": value for name, value in report.domain_bpb.items()},
        **{f"general/{name}": value for name, value in report.general_bpb.items()},
    }


class ScalarObserver:
    """An observer that only passes numbers on; a service implements `log`."""

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Pass these numbers on."""
        raise TypeError(f"{type(self).__name__} must say where numbers go")

    def stage(self, report: StageReport) -> None:
        """Nothing to plot."""

    def progress(self, report: ProgressReport) -> None:
        """Nothing to plot."""

    def step(self, report: StepReport) -> None:
        """Pass on the step's numbers."""
        self.log(step_scalars(report), report.step)

    def evaluation(self, report: EvaluationReport) -> None:
        """Pass on the hold-outs' scores."""
        self.log(evaluation_scalars(report), report.step)

    def checkpoint(self, report: CheckpointReport) -> None:
        """Pass on the stall of a save."""
        if report.event == "saved":
            self.log({"checkpoint/stall_seconds": report.stall_seconds}, report.step)

    def notice(self, report: NoticeReport) -> None:
        """Nothing to plot."""
