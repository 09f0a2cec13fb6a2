"""What is known of a run from its reports: a fold, without any drawing."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field

from steep.spec.reports import (
    CheckpointReport,
    EvaluationReport,
    NoticeReport,
    ProgressReport,
    Report,
    StageReport,
    StepReport,
)
from steep.spec.stages import ORDER, Stage

LOSSES_KEPT = 4096
STEPS_TIMED = 50


@dataclass
class View:
    """The state of a run, as far as it was reported."""

    stages: dict[Stage, StageReport] = field(default_factory=dict)
    progress: ProgressReport | None = None
    step: StepReport | None = None
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=LOSSES_KEPT))
    evaluations: dict[int, EvaluationReport] = field(default_factory=dict)
    checkpoints: dict[int, CheckpointReport] = field(default_factory=dict)
    notices: list[NoticeReport] = field(default_factory=list)
    _times: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=STEPS_TIMED))

    def add(self, report: Report) -> None:
        """Take in one report."""
        match report:
            case StageReport():
                self.stages[report.stage] = report
                self.progress = None
                self._times.clear()
                if report.event == "started":  # what later stages said before belongs to an earlier go
                    for later in ORDER[ORDER.index(report.stage) + 1 :]:
                        self.stages.pop(later, None)
            case ProgressReport():
                self.progress = report
            case StepReport():
                self._add_step(report)
            case EvaluationReport():
                self.evaluations[report.step] = report
            case CheckpointReport():
                self._add_checkpoint(report)
            case NoticeReport():
                self.notices.append(report)

    def _add_step(self, report: StepReport) -> None:
        if self.step is not None and report.step <= self.step.step:  # resumed or rolled back: go on from there
            self._times.clear()
            for step in [step for step in self.evaluations if step > report.step]:
                del self.evaluations[step]
        self.step = report
        self.progress = None
        self._times.append((report.step, report.time))
        if not report.skipped:
            self.losses.append(report.loss)

    def _add_checkpoint(self, report: CheckpointReport) -> None:
        if report.event in ("deleted", "set_aside", "rejected"):
            self.checkpoints.pop(report.step, None)
        elif report.event in ("saved", "verified"):
            self.checkpoints[report.step] = report

    @property
    def stage(self) -> Stage | None:
        """The stage at work now."""
        return next((stage for stage, report in self.stages.items() if report.event == "started"), None)

    @property
    def remaining_seconds(self) -> float | None:
        """Time that training still takes at the pace of the last steps, checkpoints and hold-outs included."""
        if self.step is None or self.step.total_steps is None or len(self._times) < 3:
            return None
        (first_step, first_time), (last_step, last_time) = self._times[0], self._times[-1]
        if last_step <= first_step:
            return None
        return (self.step.total_steps - last_step) * (last_time - first_time) / (last_step - first_step)

    @property
    def base(self) -> EvaluationReport | None:
        """The base's hold-outs."""
        return self.evaluations.get(0)

    def domain_bpb(self, evaluation: EvaluationReport) -> float | None:
        """Of all domain hold-outs together."""
        return mean_bpb(evaluation.domain_bpb, None if self.base is None else self.base.domain_bytes)

    def forgetting(self, evaluation: EvaluationReport) -> float | None:
        """The worst over the general hold-outs, against the base; None when it cannot be said."""
        base = self.base
        if base is None:
            return None
        lost = [
            bpb - base.general_bpb[name] for name, bpb in evaluation.general_bpb.items() if name in base.general_bpb
        ]
        return max(lost, default=None)


def mean_bpb(scores: dict[str, float], text_bytes: dict[str, int] | None = None) -> float | None:
    """The mean over hold-outs, each counting by its bytes as in results; where these are not known, a plain one."""
    if not scores:
        return None
    weights = [(text_bytes or {}).get(name, 0) for name in scores]
    if not all(weights):
        weights = [1] * len(scores)
    return sum(bpb * weight for bpb, weight in zip(scores.values(), weights, strict=True)) / sum(weights)


def sparkline(values: list[float], width: int, blocks: str = "▁▂▃▄▅▆▇█") -> str:
    """A curve in one line: each column is the mean of its part of the values."""
    if not values:
        return ""
    width = min(width, len(values))
    edges = [round(i * len(values) / width) for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(blocks) - 1) / (high - low) if high > low else 0.0
    return "".join(blocks[round((mean - low) * scale)] for mean in means)
