"""What is known of a worker from its records and from the system, and the ending of one whose keeper is gone."""

from __future__ import annotations

import signal
import time

from steep.compute.contract import WorkerStatus
from steep.compute.local import locks
from steep.compute.local.processes import Process, belonging, here, is_alive, send
from steep.compute.local.records import AttemptRecords, Ended, Handle, Ordered, Started
from steep.spec.errors import SteepError

START_SECONDS = 60.0
"""An attempt that nobody has begun for this long after it was asked for never begins."""

KEEPER_SECONDS = 15.0
"""A keeper that has not ended its worker this long after the deadline does not: it is done without it."""


def status_of(handle: Handle) -> WorkerStatus:
    """What is known of a worker. What cannot be read is `unknown`, and never taken for an end."""
    try:
        return _status(AttemptRecords(handle))
    except (OSError, SteepError) as error:
        return WorkerStatus("unknown", detail=f"Its records cannot be read now: {error}.")


def cancel(handle: Handle, grace_seconds: float) -> None:
    """Ask a worker to end, and have it ended after the grace. An earlier request with less grace holds.

    Raises:
        OutOfSpace: there is no room to write the request down.
    """
    records = AttemptRecords(handle)
    order = records.ordered()
    if order is None:
        for one in belonging(None, str(handle), records.alive):
            send(one, signal.SIGKILL)  # its records were deleted: there is nothing that it could save to
        return
    if records.ended() is not None or order.place.boot != here().boot:
        return
    records.cancel(time.monotonic() + grace_seconds)
    started = records.started()
    if started is None or not _is_within_reach(order):
        return  # whoever begins it sees the request first; a keeper in another container looks by itself
    if is_alive(started.keeper):
        send(started.keeper, signal.SIGTERM)
    else:
        send(started.worker, signal.SIGTERM)


def _status(records: AttemptRecords) -> WorkerStatus:
    order = records.ordered()
    if order is None:
        return _status_without_records(records)
    ended = records.ended()
    if ended is not None:
        return _status_at_end(ended)
    place = here()
    if order.place.boot != place.boot:
        if order.place.machine == place.machine:
            return WorkerStatus("gone", detail="The machine was started again since.")
        return WorkerStatus("unknown", detail=f"It was started on {order.place.machine}; this is {place.machine}.")
    started = records.started()
    if started is None:
        return _status_before_start(records, order)
    return _status_since_start(records, order, started)


def _status_without_records(records: AttemptRecords) -> WorkerStatus:
    run = records.handle.run_directory
    if not run.parent.is_dir():
        return WorkerStatus("unknown", detail=f"{run.parent} is not there now.")
    left = belonging(None, str(records.handle), records.alive)
    if not left:
        return WorkerStatus("gone", detail="There is no record of it, and no process.")
    return WorkerStatus("running", detail=f"Its records are gone, but not its processes ({_numbers(left)}).")


def _status_at_end(ended: Ended) -> WorkerStatus:
    if ended.exit_code is None:
        return WorkerStatus("gone", detail=ended.detail)
    if ended.exit_code >= 0:
        return WorkerStatus("ended", exit_code=ended.exit_code, detail=f"It ended with code {ended.exit_code}.")
    known = {int(number): number.name for number in signal.Signals}
    name = known.get(-ended.exit_code, f"signal {-ended.exit_code}")
    return WorkerStatus("ended", exit_code=ended.exit_code, detail=f"It was ended by {name}.")


def _status_before_start(records: AttemptRecords, order: Ordered) -> WorkerStatus:
    """It is about to begin, or never does: then that is written down under the lock, so that it stays so."""
    if records.deadline() is None and time.monotonic() - order.at_seconds < START_SECONDS:
        return WorkerStatus("starting", detail="It was asked for; there is no process yet.")
    try:
        lock = locks.take(records.alive, str(records.handle), patience_seconds=0)
    except locks.Held:
        return WorkerStatus("starting", detail="It is being started.")
    with locks.released(lock):
        if records.started() is None:
            why = "cancelled before it began" if records.deadline() is not None else "never begun"
            records.end(Ended(None, f"It was {why}."))
    return _status(records)


def _status_since_start(records: AttemptRecords, order: Ordered, started: Started) -> WorkerStatus:
    if not _is_within_reach(order):
        if locks.is_held(records.alive):
            return WorkerStatus("running", detail="It runs in another container of this machine.")
        return WorkerStatus("gone", detail="It ran in another container of this machine.")
    deadline = records.deadline()
    late_seconds = 0.0 if deadline is None else time.monotonic() - deadline
    with_keeper = is_alive(started.keeper) and late_seconds < KEEPER_SECONDS
    if is_alive(started.worker):
        if deadline is not None and not with_keeper:
            _end_without_keeper(records, started, late_seconds)
        return WorkerStatus("running", detail="" if deadline is None else "It was asked to end.")
    if with_keeper:
        return WorkerStatus("running", detail="The worker has ended; what it left behind is being ended.")
    ended = records.ended()  # the keeper may have written it down since, as its last deed
    if ended is not None:
        return _status_at_end(ended)
    held = locks.is_held(records.alive)
    left = belonging(started.worker, str(records.handle), records.alive if held else None)
    if not left and not held:
        return WorkerStatus("gone", detail="It is gone, and so is its keeper, who alone knew the exit code.")
    for one in left:
        send(one, signal.SIGKILL)
    return WorkerStatus("running", detail=f"The worker has ended, but not all that it began ({_numbers(left)}).")


def _end_without_keeper(records: AttemptRecords, started: Started, late_seconds: float) -> None:
    if late_seconds < 0:
        send(started.worker, signal.SIGTERM)
        return
    for one in belonging(started.worker, str(records.handle), records.alive):
        send(one, signal.SIGKILL)


def _is_within_reach(order: Ordered) -> bool:
    """Whether its process numbers mean here what they meant there."""
    place = here()
    return (order.place.boot, order.place.numbers) == (place.boot, place.numbers)


def _numbers(processes: list[Process]) -> str:
    return ", ".join(str(one.pid) for one in processes) or "out of sight"
