"""When jobs will begin, as far as can be said: a pure function of a snapshot and of when running jobs are expected to end.

An estimate and no promise: jobs may end sooner or later, and others may come that go first. None is better than a wrong one:
a job whose turn depends on something that nobody knows has no estimate.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence

from steep.server.waiting import Need, Place, Snapshot, WaitingJob, need_of, queue_order, suiting
from steep.spec.states import Reason

MAX_JOBS = 100
"""Farther back in the queue an estimate says nothing."""


def estimate_starts(
    snapshot: Snapshot,
    ends: Mapping[str, float],
    typical_seconds: float | None = None,
    limit: int = MAX_JOBS,
    *,
    order: Sequence[WaitingJob] | None = None,
) -> dict[str, float]:
    """By job, when it will probably begin; jobs of which that cannot be said are left out.

    Args:
        snapshot: with its devices.
        ends: by running job, when it is expected to end, for those of which that is known.
        typical_seconds: how long a job takes that has not begun yet; None: nobody knows.
        limit: so many jobs from the head of the queue.
        order: of the queue, where it is known already.
    """
    has_gpus = any(one.kind == "gpu" for one in snapshot.devices)
    free_at = _free_at(snapshot, ends)
    starts: dict[str, float] = {}
    suited: dict[Need, list[tuple[Place, frozenset[int]]]] = {}
    for job in (queue_order(snapshot) if order is None else order)[:limit]:
        if job.reason == Reason.WAITING_FOR_QUOTA:
            continue  # what it waits for is not devices
        need = need_of(job, has_gpus)
        choices: list[tuple[float, Place, list[int]]] = []
        if need not in suited:
            suited[need] = list(suiting(snapshot.devices, need))
        for place, numbers in suited[need]:
            soonest = heapq.nsmallest(need.size, numbers, key=lambda number: (free_at[number], number))
            if len(soonest) == need.size:
                choices.append((free_at[soonest[-1]], place, soonest))
        if not choices:
            continue
        start, _, chosen = min(choices)
        if math.isfinite(start):
            starts[job.id] = start
        for number in chosen:
            free_at[number] = math.inf if typical_seconds is None else start + typical_seconds
    return starts


def _free_at(snapshot: Snapshot, ends: Mapping[str, float]) -> list[float]:
    """By device, from when on it is free: now, at a time, or nobody knows."""
    holders = {device: job.id for job in snapshot.running for device in job.devices}
    times = []
    for one in snapshot.devices:
        holder = holders.get((one.backend, one.id))
        if holder is not None:
            times.append(max(ends.get(holder, math.inf), snapshot.now))
        else:
            times.append(snapshot.now if one.usable else math.inf)
    return times
