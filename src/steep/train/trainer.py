"""The whole of training on one page: assemble, resume, then step after step until the end, a stop or a failure."""

from __future__ import annotations

import time
from collections.abc import Callable

from steep.spec.errors import Stopped, TrainingFailed
from steep.spec.reports import EvaluationReport, NoticeReport
from steep.train.assemble import Trainee, assemble
from steep.train.checkpoint import CheckpointWriter, load_checkpoint
from steep.train.keeper import Keeper
from steep.train.loader import Loader, Sequences
from steep.train.memory import keep_freed_memory
from steep.train.mesh import device_mesh
from steep.train.observer import Observer
from steep.train.progress import StepReporter
from steep.train.resume import Resumption, find_resumption, newest_own
from steep.train.setup import Scores, TrainingOutcome, TrainingSetup
from steep.train.spikes import MAX_ROLLBACKS, RATE_AFTER_ROLLBACK, SKIPS_BEFORE_ROLLBACK
from steep.train.step import forget_other_average, train_step


def train(
    setup: TrainingSetup, observer: Observer, should_stop: Callable[[], str | None] = lambda: None
) -> TrainingOutcome:
    """Train to the end of the schedule, going on from the newest valid checkpoint that belongs to this setup.

    Args:
        setup: what to train, on what, and how.
        observer: told of steps, evaluations, checkpoints, and of what went wrong.
        should_stop: asked after each step; a reason ends training with a checkpoint.

    Raises:
        Stopped: it was asked to; a checkpoint is there and the same call goes on.
        OutOfSpace: the disk is full, before training or in the middle; what was committed is safe.
        TrainingFailed: the loss stays non-finite or keeps jumping, whatever was tried.
    """
    keep_freed_memory(setup.device)
    with device_mesh(setup.device) as mesh:
        resumption = find_resumption(setup, observer)
        trainee = assemble(setup, mesh, resumption.precision)
        return _Run(setup, trainee, resumption, observer).to_the_end(should_stop)


class _Run:
    """One process's part of a training."""

    def __init__(self, setup: TrainingSetup, trainee: Trainee, resumption: Resumption, observer: Observer) -> None:
        self.setup = setup
        self.trainee = trainee
        self.observer = observer
        writer = CheckpointWriter(
            setup.checkpoints,
            spec_fingerprint=setup.spec_fingerprint,
            order_fingerprint=setup.order.fingerprint,
            parent=resumption.parent,
        )
        self.keeper = Keeper(writer, setup, observer)
        self.sequences = Sequences(setup.datasets, setup.order, setup.taught)
        self.scores: Scores | None = None
        self.halted = False
        self.resumed_from = resumption.step
        self.started = self.last_evaluation = time.monotonic()
        if resumption.step is not None:
            load_checkpoint(setup.checkpoints, resumption.step, trainee.state, verified=True)
            trainee.state.progress.cursor = resumption.cursor
            forget_other_average(trainee, setup)

    def to_the_end(self, should_stop: Callable[[], str | None]) -> TrainingOutcome:
        """Train until the schedule ends or `halts` says so; a rollback begins again from an earlier step."""
        self.keeper.require_space(self.trainee)
        self._make_up_evaluation()
        progress = self.trainee.state.progress
        while progress.step < self.setup.schedule.total_steps and not self.halted:
            self._train_until_rollback(should_stop)
            progress = self.trainee.state.progress
        self.keeper.wait()
        return TrainingOutcome(
            step=progress.step,
            tokens_seen=progress.tokens_seen,
            skipped_steps=progress.skipped_steps,
            rollbacks=progress.rollbacks,
            seconds=time.monotonic() - self.started,
            stall_seconds=self.keeper.stall_seconds,
            halted=self.halted,
        )

    def _train_until_rollback(self, should_stop: Callable[[], str | None]) -> None:
        setup, state = self.setup, self.trainee.state
        reporter = StepReporter(setup, self.trainee, self.observer)
        with Loader(
            self.sequences,
            state.progress.cursor,
            sequences_per_step=setup.sequences_per_step,
            microbatch_sequences=setup.microbatch_sequences,
        ) as loader:
            while state.progress.step < setup.schedule.total_steps:
                result = train_step(self.trainee, setup, loader.next_step())
                reporter.report(result)
                self.keeper.poll()
                if state.progress.skipped_in_a_row > SKIPS_BEFORE_ROLLBACK:
                    self._roll_back(str(result.skipped))
                    return
                # who asks for a stop in the last step gets the end, with its evaluation: nobody would make that up
                reason = should_stop() if state.progress.step < setup.schedule.total_steps else None
                self._evaluate_and_save(stopping=reason is not None)
                reporter.resume_clock()
                if self.halted:
                    return
                if reason is not None:
                    self._stop(reason)

    def _evaluate_and_save(self, *, stopping: bool) -> None:
        progress = self.trainee.state.progress
        due = self.keeper.due(progress)
        if not stopping and self._evaluation_due(progress.step, due == "regular"):
            self._evaluate()
        if due is not None or stopping or self.halted:
            self.keeper.save(self.trainee, self.scores)
        self.scores = None

    def _evaluation_due(self, step: int, checkpoint_due: bool) -> bool:
        setup = self.setup
        if step == setup.schedule.total_steps:
            return True
        if setup.evaluate_every_steps is not None:
            return step % setup.evaluate_every_steps == 0
        if setup.evaluate_every_seconds is not None:
            return time.monotonic() - self.last_evaluation >= setup.evaluate_every_seconds
        return checkpoint_due

    def _make_up_evaluation(self) -> None:
        """Evaluate where a stop left it out, so that a run that was stopped is judged by the same numbers as another one."""
        step = self.resumed_from
        if step is None or step == self.setup.schedule.total_steps or self.setup.checkpoints.get(step).metrics:
            return
        if self._evaluation_due(step, self.keeper.regular(step)):
            self._evaluate()
        if self.scores is not None:
            self.keeper.record(step, self.scores)
            self.scores = None

    def _evaluate(self) -> None:
        if self.setup.measure is None:
            return
        progress = self.trainee.state.progress
        self.scores = self.setup.measure(self.trainee.plain)
        self.last_evaluation = time.monotonic()
        self.observer.evaluation(
            EvaluationReport(
                step=progress.step,
                tokens_seen=progress.tokens_seen,
                domain_bpb=dict(self.scores.domain),
                general_bpb=dict(self.scores.general),
            )
        )
        self.halted = self.setup.halts(progress.step)

    def _stop(self, reason: str) -> None:
        self.keeper.wait()
        raise Stopped(
            f"stopped at step {self.trainee.state.progress.step} of {self.setup.schedule.total_steps}: {reason}",
            cure="The same command goes on from there.",
        )

    def _roll_back(self, why: str) -> None:
        """Go back to the last checkpoint and on with the text after the trouble; with a lower rate from the second time on.

        Raises:
            TrainingFailed: there is no checkpoint yet, or it was tried often enough.
        """
        setup, state = self.setup, self.trainee.state
        self.keeper.wait()
        trouble = state.progress
        target = newest_own(setup, self.observer)
        if target is None or trouble.rollbacks >= MAX_ROLLBACKS:
            tried = f" after {trouble.rollbacks} rollbacks" if trouble.rollbacks else ""
            raise TrainingFailed(
                f"{trouble.skipped_in_a_row} steps in a row could not be applied{tried}: {why}",
                where=f"step {trouble.step}",
                cure="Lower training.learning_rate, or look at the corpus with `steep corpus inspect`.",
            )
        load_checkpoint(setup.checkpoints, target.step, state, verified=True)
        progress = state.progress
        progress.cursor = trouble.cursor
        progress.skipped_steps = trouble.skipped_steps
        progress.skipped_in_a_row = 0
        progress.rollbacks = trouble.rollbacks + 1
        progress.rate_scale = trouble.rate_scale * (RATE_AFTER_ROLLBACK if trouble.rollbacks > 0 else 1.0)
        lower = "" if progress.rate_scale == 1 else f" The rate is {progress.rate_scale:g} of the schedule's."
        self.observer.notice(
            NoticeReport(
                level="warning",
                code="rolled_back",
                message=f"{trouble.skipped_in_a_row} steps in a row could not be applied ({why}); back to step {target.step}, "
                f"and on with the sequences from {trouble.cursor} on.{lower}",
                step=trouble.step,
            )
        )
