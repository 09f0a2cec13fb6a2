"""Checkpoints while training: when they are due, the proof that the first one can be read, and which may go."""

from __future__ import annotations

import math
import time
from typing import Any, Literal

from steep.artifacts.manifest import CheckpointManifest
from steep.artifacts.retention import CheckpointFacts, to_delete
from steep.artifacts.space import require_space
from steep.spec.reports import CheckpointReport
from steep.train.assemble import Trainee
from steep.train.checkpoint import CheckpointWriter, Saved
from steep.train.observer import Observer
from steep.train.setup import Scores, TrainingSetup
from steep.train.state import Progress

FIRST_STEPS = 10
FIRST_SHARE = 0.01
_GAIN, _FORGETTING = "gain", "forgetting"


class Keeper:
    """Saves, verifies and deletes the checkpoints of one run.

    Args:
        writer: saves in the background.
        setup: when, and how many are kept.
        observer: told of everything.
    """

    def __init__(self, writer: CheckpointWriter, setup: TrainingSetup, observer: Observer) -> None:
        self.writer = writer
        self.stall_seconds = 0.0
        self._setup = setup
        self._observer = observer
        self._last_save = time.monotonic()
        self._proven = bool(setup.checkpoints.sound_steps())
        self._owed: Literal["regular", "early"] | None = None

    def require_space(self, trainee: Trainee) -> None:
        """Make sure that the checkpoints still to be written fit on the disk.

        Raises:
            OutOfSpace: with what is needed and what is free.
        """
        copies = 3 + (self._setup.average_steps > 0)
        size_bytes = copies * sum(4 * weight.numel() for weight in trainee.trainable)
        retention = self._setup.retention
        most = retention.keep_last + retention.keep_best + (self._setup.decay_begins is not None) + 1
        missing = max(1, most - len(self._setup.checkpoints.sound_steps()))
        require_space(
            self._setup.checkpoints.directory,
            missing * size_bytes,
            f"training, which writes up to {missing} more checkpoint{'s' if missing > 1 else ''} at a time,",
        )

    def due(self, progress: Progress) -> Literal["regular", "early"] | None:
        """Whether a checkpoint should be saved now: one that was asked for, or the early one that proves it can be resumed.

        What falls due among skipped steps waits until one is applied again: a state that is in trouble is nothing to go
        back to.
        """
        if self.regular(progress.step):
            self._owed = "regular"
        elif self._owed is None and self._early(progress.step):
            self._owed = "early"
        in_trouble = progress.skipped_in_a_row > 0 and progress.step < self._setup.schedule.total_steps
        return None if in_trouble else self._owed

    def regular(self, step: int) -> bool:
        """Whether the spec wants a checkpoint at this step."""
        setup = self._setup
        if step in (setup.schedule.total_steps, setup.decay_begins):
            return True
        if setup.checkpoint_every_seconds is not None:
            return time.monotonic() - self._last_save >= setup.checkpoint_every_seconds
        every = setup.checkpoint_every_steps
        if every is None or step % every:
            return False
        return (
            setup.schedule.total_steps - step >= every / 10
        )  # the last step's own comes at once, and would be its twin

    def _early(self, step: int) -> bool:
        return not self._proven and step >= min(FIRST_STEPS, math.ceil(FIRST_SHARE * self._setup.schedule.total_steps))

    def save(self, trainee: Trainee, scores: Scores | None) -> None:
        """Begin to save; the first checkpoint of a run is waited for and read back."""
        facts: dict[str, Any] = {"precision": trainee.precision.name}
        metrics = {} if scores is None else _metrics(scores)
        self.writer.save(trainee.state, facts=facts, metrics=metrics)
        self._last_save = time.monotonic()
        self._owed = None
        if not self._proven:
            self._prove(trainee.state.progress.step)

    def record(self, step: int, scores: Scores) -> None:
        """Note what was measured of a checkpoint that is committed already."""
        self._setup.checkpoints.record_metrics(step, _metrics(scores))

    def poll(self) -> None:
        """Report what has been committed, and let old checkpoints go.

        Raises:
            OutOfSpace, or whatever else went wrong in the background.
        """
        self._committed(self.writer.poll())

    def wait(self) -> None:
        """The same, once everything is committed."""
        started = time.perf_counter()
        saved = self.writer.wait()
        self.stall_seconds += time.perf_counter() - started
        self._committed(saved)

    def _prove(self, step: int) -> None:
        """Read the first checkpoint back, so that a run does not learn late that it cannot be resumed."""
        self.wait()
        manifest = self._setup.checkpoints.verify(step)
        self._proven = True
        self._observer.checkpoint(
            CheckpointReport(
                step=step, event="verified", size_bytes=manifest.size_bytes, detail="the first one was read back"
            )
        )

    def _committed(self, saved: Saved | None) -> None:
        if saved is None:
            return
        self.stall_seconds += saved.stall_seconds
        self._observer.checkpoint(
            CheckpointReport(
                step=saved.manifest.step,
                event="saved",
                size_bytes=saved.manifest.size_bytes,
                tokens_seen=saved.manifest.tokens_seen,
                stall_seconds=saved.stall_seconds,
            )
        )
        self._retain()

    def _retain(self) -> None:
        """Delete what the policy does not keep; the trunk's end stays, since branches decay from there.

        A damaged one takes no sound one's place, and is left alone: training that comes to its step writes it anew.
        """
        catalog = self._setup.checkpoints
        table = [self._facts(manifest) for manifest in catalog.list() if manifest.step not in catalog.damaged]
        for step in to_delete(table, self._setup.retention):
            freed = catalog.delete(step)
            self._observer.checkpoint(CheckpointReport(step=step, event="deleted", size_bytes=freed))

    def _facts(self, manifest: CheckpointManifest) -> CheckpointFacts:
        catalog, step = self._setup.checkpoints, manifest.step
        return CheckpointFacts(
            step=step,
            gain=manifest.metrics.get(_GAIN),
            forgetting=manifest.metrics.get(_FORGETTING),
            pinned=catalog.pinned(step) or step == self._setup.decay_begins,
            ancestor=bool(catalog.branches(step)) or self._is_origin(manifest),
        )

    def _is_origin(self, manifest: CheckpointManifest) -> bool:
        origin = self._setup.parent
        return origin is not None and origin.identity == manifest.identity


def _metrics(scores: Scores) -> dict[str, float]:
    metrics = {f"domain/{name}": bpb for name, bpb in scores.domain.items()}
    metrics |= {f"general/{name}": bpb for name, bpb in scores.general.items()}
    if scores.gain is not None and scores.forgetting is not None:
        metrics |= {_GAIN: scores.gain, _FORGETTING: scores.forgetting}
    return metrics
