"""What observers hear of each step: loss, rate, speed, memory."""

from __future__ import annotations

import math
import time

from steep.model.flops import flops_per_token, peak_flops
from steep.spec.reports import NoticeReport, StepReport
from steep.train.assemble import Trainee
from steep.train.memory import peak_bytes
from steep.train.observer import Observer
from steep.train.setup import TrainingSetup
from steep.train.step import StepResult


class StepReporter:
    """Reports steps; a step's time runs from the end of the step before, without evaluations and checkpoints."""

    def __init__(self, setup: TrainingSetup, trainee: Trainee, observer: Observer) -> None:
        self._setup = setup
        self._trainee = trainee
        self._observer = observer
        self._flops_per_token = flops_per_token(trainee.state.model.config, setup.order.sequence_tokens)
        self._peak_flops = peak_flops(setup.device)
        self.resume_clock()

    def resume_clock(self) -> None:
        """The next step begins now."""
        self._step_began = time.perf_counter()

    def report(self, result: StepResult) -> None:
        """Tell of a step that was just made, and of why it was not applied."""
        progress = self._trainee.state.progress
        seconds = time.perf_counter() - self._step_began
        tokens_per_second = self._setup.step_tokens / seconds
        peak = self._peak_flops
        self._observer.step(
            StepReport(
                step=progress.step,
                total_steps=self._setup.schedule.total_steps,
                tokens_seen=progress.tokens_seen,
                loss=result.loss,
                learning_rate=result.learning_rate,
                gradient_norm=result.gradient_norm,
                step_seconds=seconds,
                tokens_per_second=tokens_per_second,
                mfu=None if not peak else tokens_per_second * self._flops_per_token / peak,
                peak_memory_bytes=peak_bytes(self._setup.device),
                skipped=result.skipped is not None,
            )
        )
        if result.skipped is not None:
            self._observer.notice(
                NoticeReport(
                    level="warning",
                    code="loss_spike" if math.isfinite(result.loss + result.gradient_norm) else "not_finite",
                    message=f"step {progress.step} was not applied: {result.skipped}",
                    step=progress.step,
                )
            )
