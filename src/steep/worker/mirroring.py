"""Checkpoints copied to the job's store while it trains, and fetched from there when none is here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from steep.artifacts.mirror import Mirror, RemoteCheckpoints
from steep.artifacts.store import StoreUnavailable, open_store
from steep.spec.reports import CheckpointReport, StepReport
from steep.train.observer import Several, Silent
from steep.worker.context import Context

if TYPE_CHECKING:
    from steep.train.observer import Observer
    from steep.train.setup import TrainingSetup


@contextmanager
def mirrored(context: Context, setup: TrainingSetup, observer: Observer) -> Iterator[Observer]:
    """While the block runs, what happens to the catalog's checkpoints happens to their copies in the store too.

    Without a store in the spec this does nothing. A store that fails never ends training; what was not copied by the
    end is named, and copied by the next run.

    Args:
        context: of the run; its spec says where the store is.
        setup: of the training; its data order (the one before the guard changed it, if it did) is what the copies belong to,
            and a store that holds another's is not touched.
        observer: told of copies, and of everything that the listener is told.

    Yields:
        The observer that training should talk to.
    """
    url = context.spec.checkpoints.store
    if url is None:
        yield observer
        return
    owner = next((one.order_fingerprint for one in context.guard.rollbacks), setup.order.fingerprint)
    remote = RemoteCheckpoints(open_store(url), context.spec.name, owner)
    _fetch_if_none(context, setup, remote, observer)
    mirror = Mirror(setup.checkpoints, remote)
    mirror.catch_up()
    listening = Several((observer, _Copying(mirror, observer)))
    try:
        yield listening
    finally:
        missing = mirror.close()
        for report in mirror.poll():
            observer.checkpoint(report)
        if missing:
            steps = ", ".join(map(str, missing))
            context.notice(
                "not_copied", f"checkpoints {steps} are not in {url} yet; the next run copies them", warning=True
            )


class _Copying(Silent):
    """Passes commits and deletions on to the mirror, and what the mirror did to the observer."""

    def __init__(self, mirror: Mirror, observer: Observer) -> None:
        self._mirror = mirror
        self._observer = observer

    def step(self, report: StepReport) -> None:
        """Tell what was copied since the last step."""
        for done in self._mirror.poll():
            self._observer.checkpoint(done)

    def checkpoint(self, report: CheckpointReport) -> None:
        """A checkpoint was committed or deleted here; so shall it be there."""
        if report.event == "saved":
            self._mirror.copy(report.step)
        elif report.event == "deleted":
            self._mirror.delete(report.step)


def _fetch_if_none(context: Context, setup: TrainingSetup, remote: RemoteCheckpoints, observer: Observer) -> None:
    """On a new machine the run goes on from the newest copy."""
    if setup.checkpoints.steps():
        return
    from steep.train.resume import why_foreign

    def rejected(step: int, why: str) -> None:
        observer.checkpoint(CheckpointReport(step=step, event="rejected", detail=why))

    try:
        remote.claim()
        fetched = remote.fetch_newest(setup.checkpoints, rejected, lambda manifest: why_foreign(manifest, setup))
    except StoreUnavailable as error:
        context.notice("store_unavailable", f"{error}; beginning without it, copies are tried again", warning=True)
        return
    if fetched is not None:
        context.notice("fetched", f"checkpoint {fetched.step} was fetched from {context.spec.checkpoints.store}")
