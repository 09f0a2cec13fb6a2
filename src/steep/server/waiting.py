"""Who waits and who runs, for what and on what: the snapshot that placement decides on, and the order of the queue.

Priority goes first. Within a priority the project that uses least for its share goes next, with its oldest job; each job that is
put in order counts as used, so that projects take turns.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal, NamedTuple

PATIENCE_SECONDS = 300.0

Kind = Literal["gpu", "cpu"]
Place = tuple[str, str]  # backend and location


class WaitingJob(NamedTuple):
    """A queued job that nobody holds.

    Args:
        gpu_count: GPUs that it needs; 0 is a CPU slot; None is one GPU where there are any, else a CPU slot.
        gpu: part of the model's name, in any case; None is any.
        location: None is anywhere.
        queued_at: since when it waits.
        not_before: it is backing off until then.
        reason: why it waits, as it was last written down.
        detail: the sentence beside it.
        since: when it began to wait, by the clock that `not_before` is of.
    """

    id: str
    project: str
    priority: int
    gpu_count: int | None
    gpu: str | None
    location: str | None
    queued_at: float
    not_before: float
    reason: str = ""
    detail: str = ""
    since: float = 0.0


class RunningJob(NamedTuple):
    """A job with a living attempt. Its devices are (backend, id). `stopping`: they will soon be free."""

    id: str
    project: str
    priority: int
    devices: tuple[tuple[str, str], ...]
    gpus: int
    started_at: float
    stopping: bool


class OfferedDevice(NamedTuple):
    """A device that there is. One that is not usable is lent to nobody now, and may be later."""

    backend: str
    id: str
    kind: Kind
    model: str
    location: str
    usable: bool


class ProjectUse(NamedTuple):
    """What a project may use, None being unlimited; and the bytes it has stored, where these are limited."""

    name: str
    share: float = 1.0
    quota_gpus: int | None = None
    quota_jobs: int | None = None
    quota_stored_bytes: int | None = None
    stored_bytes: int = 0

    @property
    def is_limited(self) -> bool:
        """It may not use all that there is."""
        return (self.quota_gpus, self.quota_jobs, self.quota_stored_bytes) != (None, None, None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a decision needs, as it was at one moment."""

    now: float
    waiting: Sequence[WaitingJob]
    running: Sequence[RunningJob]
    devices: Sequence[OfferedDevice]
    projects: Sequence[ProjectUse]
    patience_seconds: float = PATIENCE_SECONDS


class Need(NamedTuple):
    """What jobs ask for; many ask for the same."""

    kind: Kind
    size: int
    gpu: str | None
    location: str | None

    def __str__(self) -> str:
        model = self.gpu or "GPU"
        what = "a CPU slot" if self.kind == "cpu" else f"{self.size} x {model}"
        return what if self.location is None else f"{what} in {self.location}"


def need_of(job: WaitingJob, has_gpus: bool) -> Need:
    """What a job needs, where there are GPUs or where there are none."""
    count = job.gpu_count
    if count is None:
        count = 1 if has_gpus or job.gpu is not None else 0
    if count == 0:
        return Need("cpu", 1, None, job.location)
    return Need("gpu", count, job.gpu, job.location)


def suiting(devices: Iterable[OfferedDevice], need: Need) -> Iterator[tuple[Place, frozenset[int]]]:
    """By place, the numbers of the devices that suit a need, lent ones too."""
    found: dict[Place, list[int]] = defaultdict(list)
    for number, one in enumerate(devices):
        if one.kind != need.kind or (need.location is not None and one.location != need.location):
            continue
        if need.gpu is None or need.gpu.lower() in one.model.lower():
            found[(one.backend, one.location)].append(number)
    for place, numbers in sorted(found.items()):
        yield place, frozenset(numbers)


def is_backing_off(not_before: float, since: float, now: float) -> bool:
    """Whether it is too early to begin. A wait that began in the future is one of before the clock was set back, and is over."""
    return since <= now < not_before


def queue_order(snapshot: Snapshot) -> list[WaitingJob]:
    """The waiting jobs in the order in which they are looked at; those that are backing off are left out."""
    shares = {project.name: project.share for project in snapshot.projects}
    used: dict[str, float] = defaultdict(float)
    for running in snapshot.running:
        used[running.project] += max(running.gpus, 1) / shares.get(running.project, 1.0)
    lines: dict[tuple[int, str], list[WaitingJob]] = defaultdict(list)
    now = snapshot.now
    for job in snapshot.waiting:
        if job.not_before <= now or not is_backing_off(job.not_before, job.since, now):
            lines[job.priority, job.project].append(job)
    of_priority: dict[int, dict[str, list[WaitingJob]]] = defaultdict(dict)
    for (priority, project), line in lines.items():
        line.sort(key=_AGE, reverse=True)
        of_priority[priority][project] = line
    order: list[WaitingJob] = []
    for priority in sorted(of_priority, reverse=True):
        order.extend(_in_turns(of_priority[priority], shares, used))
    return order


_AGE = attrgetter("queued_at", "id")


def _in_turns(
    lines: Mapping[str, list[WaitingJob]], shares: Mapping[str, float], used: dict[str, float]
) -> Iterator[WaitingJob]:
    """The jobs of a priority; each line has its oldest job at its end."""
    heap = [(used[project], line[-1].queued_at, project) for project, line in lines.items()]
    heapq.heapify(heap)
    while len(heap) > 1:
        _, _, project = heap[0]
        line = lines[project]
        job = line.pop()
        yield job
        used[project] += _gpus(job) / shares.get(project, 1.0)
        if line:
            heapq.heapreplace(heap, (used[project], line[-1].queued_at, project))
        else:
            heapq.heappop(heap)
    for _, _, project in heap:  # nobody is left to take turns with
        used[project] += sum(map(_gpus, lines[project])) / shares.get(project, 1.0)
        yield from reversed(lines[project])


def _gpus(job: WaitingJob) -> int:
    return 1 if job.gpu_count is None else max(job.gpu_count, 1)
