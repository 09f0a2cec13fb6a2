"""Who gets devices next: a pure function from a snapshot to placements, waits and preemptions.

Jobs are looked at in the order of the queue, see `waiting.py`. A gang is placed whole or not at all, and all in one place
(backend and location).

No starvation: a job that found too few devices keeps those that it found. As long as it has waited for less than
`patience_seconds`, jobs behind it may still take them, so that they are not idle for long for a gang that has just come; from
then on what gets free in its place is kept for it, until it is whole. So a large job waits for the jobs that run when its
patience ends, and for none that is behind it. A job of a project that uses more for its share than others is behind theirs.

Preemption: only of jobs of strictly lower priority, only in one place, and only when that gives the job all it lacks. The least
important are taken, of them those that began last, and none that is not needed.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from steep.server.waiting import Kind, OfferedDevice, RunningJob, Snapshot, WaitingJob, queue_order
from steep.spec.states import Reason
from steep.spec.units import format_bytes

MAX_PREEMPTIONS = 50
"""In one round, so that it stays short; the next one goes on."""

NUM_COUNTED = 100
"""Sentences count the jobs ahead up to here, so that they need not all be written anew when one job of thousands begins."""

Place = tuple[str, str]  # backend and location


class Placement(NamedTuple):
    """Begin an attempt of this job on these devices."""

    job_id: str
    backend: str
    devices: tuple[str, ...]


class Wait(NamedTuple):
    """This job waits on, and why. `position` is its place in the queue, from 1."""

    job_id: str
    reason: Reason
    detail: str
    position: int


class Preemption(NamedTuple):
    """Ask this job to yield to another."""

    job_id: str
    for_job_id: str
    detail: str


@dataclass(slots=True)
class Decisions:
    """What to do. Jobs that are backing off are in none of them."""

    placements: list[Placement] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    preemptions: list[Preemption] = field(default_factory=list)


def place(snapshot: Snapshot) -> Decisions:
    """Decide for all waiting jobs."""
    return _Round(snapshot).decide()


class _Need(NamedTuple):
    """What jobs ask for; many ask for the same."""

    kind: Kind
    size: int
    gpu: str | None
    location: str | None

    def __str__(self) -> str:
        model = self.gpu or "GPU"
        what = "a CPU slot" if self.kind == "cpu" else f"{self.size} x {model}"
        return what if self.location is None else f"{what} in {self.location}"


@dataclass(frozen=True, slots=True)
class _Spot:
    """The devices of one place that suit a need, by number: all of them, the free ones, and those that soon will be."""

    place: Place
    all: frozenset[int]
    free: frozenset[int]
    coming: frozenset[int]

    @property
    def in_sight(self) -> int:
        """Free ones and those that soon will be."""
        return len(self.free) + len(self.coming)


class _Chance(NamedTuple):
    """How a need can be met now: in all places that are large enough, one that has it free, that will have it, or most."""

    spots: Sequence[_Spot]
    fits: _Spot | None
    will_fit: _Spot | None
    best: _Spot | None


class _Round:
    """One round of decisions, with what is left of devices and quotas as it goes on. Devices go by their number here."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._devices = sorted(snapshot.devices, key=lambda one: (one.backend, one.location, one.id))
        self._has_gpus = any(one.kind == "gpu" for one in self._devices)
        self._projects = {project.name: project for project in snapshot.projects}
        self._gpus: dict[str, int] = defaultdict(int)
        self._jobs: dict[str, int] = defaultdict(int)
        held = {device: job for job in snapshot.running for device in job.devices}
        for job in snapshot.running:
            self._gpus[job.project] += job.gpus
            self._jobs[job.project] += 1
        self._holders: dict[int, RunningJob] = {}
        self._free: set[int] = set()
        self._coming: set[int] = set()
        for number, one in enumerate(self._devices):
            holder = held.get((one.backend, one.id))
            if holder is None:
                self._free.update([number] if one.usable else [])
            elif holder.stopping:
                self._coming.add(number)
            else:
                self._holders[number] = holder
        self._suiting: dict[_Need, list[tuple[Place, frozenset[int]]]] = {}
        self._chances: dict[_Need, _Chance] = {}
        self._sentences: dict[tuple[_Need, int], str] = {}
        self._lowest = min((job.priority for job in snapshot.running if not job.stopping), default=None)
        self._no_victims: dict[_Need, int] = {}  # the highest priority for which none were found; there are never more
        self._decisions = Decisions()

    def decide(self) -> Decisions:
        """Go through the queue once."""
        for position, job in enumerate(queue_order(self._snapshot), 1):
            need = self._need(job)
            over = self._over_quota(job, need)
            if over is not None:
                self._wait(job, Reason.WAITING_FOR_QUOTA, over, position)
            elif not self._try(job, need):
                self._wait(job, Reason.WAITING_FOR_DEVICES, self._sentence(need, position), position)
        return self._decisions

    def _wait(self, job: WaitingJob, reason: Reason, detail: str, position: int) -> None:
        self._decisions.waits.append(Wait(job.id, reason, detail, position))

    def _need(self, job: WaitingJob) -> _Need:
        count = job.gpu_count
        if count is None:
            count = 1 if self._has_gpus or job.gpu is not None else 0
        if count == 0:
            return _Need("cpu", 1, None, job.location)
        return _Need("gpu", count, job.gpu, job.location)

    # --------------------------------------------------------------------------------------------------------- quotas

    def _over_quota(self, job: WaitingJob, need: _Need) -> str | None:
        project = self._projects.get(job.project)
        if project is None:
            return None
        gpus = need.size if need.kind == "gpu" else 0
        if project.quota_gpus is not None and gpus:
            if gpus > project.quota_gpus:
                return f"asks for {gpus} GPUs, and project {project.name} may use {project.quota_gpus}"
            if self._gpus[job.project] + gpus > project.quota_gpus:
                return f"project {project.name} uses {self._gpus[job.project]} of its {project.quota_gpus} GPUs"
        if project.quota_jobs is not None and self._jobs[job.project] + 1 > project.quota_jobs:
            return f"project {project.name} runs {self._jobs[job.project]} of its {project.quota_jobs} jobs"
        if project.quota_stored_bytes is not None and project.stored_bytes >= project.quota_stored_bytes:
            return f"project {project.name} has filled its {format_bytes(project.quota_stored_bytes)} of storage"
        return None

    # -------------------------------------------------------------------------------------------------------- devices

    def _try(self, job: WaitingJob, need: _Need) -> bool:
        """Place a job; or else see to it that its devices come. Returns whether it was placed."""
        chance = self._chance(need)
        if chance.fits is not None:
            self._lend(job, need, chance.fits)
            return True
        if chance.will_fit is not None:
            self._keep(chance.will_fit, need)
        elif (spot := self._preempt(job, need, chance.spots)) is not None:
            self._keep(spot, need)
        elif chance.best is not None and self._snapshot.now - job.queued_at >= self._snapshot.patience_seconds:
            self._keep(chance.best, need)
        return False

    def _chance(self, need: _Need) -> _Chance:
        """How things stand for a need; looked at anew only after something has changed."""
        if need not in self._chances:
            spots = [
                _Spot(place, all_of_them, all_of_them & self._free, all_of_them & self._coming)
                for place, all_of_them in self._suited(need)
                if len(all_of_them) >= need.size
            ]
            self._chances[need] = _Chance(
                spots,
                fits=min(  # large room stays whole
                    (spot for spot in spots if len(spot.free) >= need.size),
                    key=lambda spot: (len(spot.free), spot.place),
                    default=None,
                ),
                will_fit=max(
                    (spot for spot in spots if spot.in_sight >= need.size),
                    key=lambda spot: (len(spot.free), spot.place),
                    default=None,
                ),
                best=max(
                    (spot for spot in spots if spot.in_sight),
                    key=lambda spot: (spot.in_sight, spot.place),
                    default=None,
                ),
            )
        return self._chances[need]

    def _suited(self, need: _Need) -> list[tuple[Place, frozenset[int]]]:
        if need not in self._suiting:
            self._suiting[need] = list(_suiting(self._devices, need))
        return self._suiting[need]

    def _lend(self, job: WaitingJob, need: _Need, spot: _Spot) -> None:
        chosen = heapq.nsmallest(need.size, spot.free)
        self._free.difference_update(chosen)
        self._chances.clear()
        names = tuple(self._devices[number].id for number in chosen)
        self._decisions.placements.append(Placement(job.id, spot.place[0], names))
        self._jobs[job.project] += 1
        self._gpus[job.project] += need.size if need.kind == "gpu" else 0

    def _keep(self, spot: _Spot, need: _Need) -> None:
        """Nobody behind gets these: the free ones, then those that soon will be, as many as are needed."""
        kept = heapq.nsmallest(need.size, spot.free)
        kept += heapq.nsmallest(need.size - len(kept), spot.coming)
        if kept:
            self._free.difference_update(kept)
            self._coming.difference_update(kept)
            self._chances.clear()

    # ------------------------------------------------------------------------------------------------------ preemption

    def _preempt(self, job: WaitingJob, need: _Need, spots: Sequence[_Spot]) -> _Spot | None:
        """Ask lower jobs of one place to yield; returns that place as it is then, or nothing when it is enough nowhere."""
        if self._lowest is None or job.priority <= max(self._lowest, self._no_victims.get(need, self._lowest)):
            return None
        if len(self._decisions.preemptions) >= MAX_PREEMPTIONS:
            return None
        options = [(victims, spot) for spot in spots if (victims := self._victims(job, need, spot))]
        if not options:
            self._no_victims[need] = job.priority
            return None
        victims, chosen = min(options, key=lambda option: (_harm(option[0]), option[1].place))
        yielding = {victim.id for victim in victims}
        freed = {number for number, holder in self._holders.items() if holder.id in yielding}
        self._coming |= freed
        for number in freed:
            del self._holders[number]
        self._chances.clear()
        for victim in victims:
            detail = f"yields to job {job.id}, whose priority is {job.priority} and not {victim.priority}"
            self._decisions.preemptions.append(Preemption(victim.id, job.id, detail))
        return next(spot for spot in self._chance(need).spots if spot.place == chosen.place)

    def _victims(self, job: WaitingJob, need: _Need, spot: _Spot) -> list[RunningJob]:
        lacking = need.size - spot.in_sight
        frees: dict[str, int] = defaultdict(int)
        lower: dict[str, RunningJob] = {}
        for number in spot.all:
            holder = self._holders.get(number)
            if holder is not None and holder.priority < job.priority:
                lower[holder.id] = holder
                frees[holder.id] += 1
        chosen: list[RunningJob] = []
        freed = 0
        for victim in sorted(lower.values(), key=lambda one: (one.priority, -one.started_at, one.id)):
            if freed >= lacking:
                break
            chosen.append(victim)
            freed += frees[victim.id]
        if freed < lacking:
            return []
        for victim in sorted(chosen, key=lambda one: (-one.priority, one.started_at)):  # the dearest are spared first
            if freed - frees[victim.id] >= lacking:
                chosen.remove(victim)
                freed -= frees[victim.id]
        return chosen

    # -------------------------------------------------------------------------------------------------------- sentences

    def _sentence(self, need: _Need, position: int) -> str:
        ahead = min(position - 1, NUM_COUNTED + 1)
        if (need, ahead) not in self._sentences:
            self._sentences[(need, ahead)] = self._missing(need) or f"waiting for {need}; {_ahead(ahead)}"
        return self._sentences[(need, ahead)]

    def _missing(self, need: _Need) -> str | None:
        """Why no wait will help, as things are."""
        most = max((len(all_of_them) for _, all_of_them in self._suited(need)), default=0)
        if most >= need.size:
            return None
        if most:
            return f"waiting for {need}; there are {most} in one place at most"
        there = ", ".join(sorted({one.model for one in self._devices})) or "nothing"
        return f"waiting for {need}; there is none here, only {there}"


def _ahead(jobs: int) -> str:
    if jobs == 0:
        return "next in the queue"
    if jobs > NUM_COUNTED:
        return f"more than {NUM_COUNTED} jobs ahead"
    return "1 job ahead" if jobs == 1 else f"{jobs} jobs ahead"


def _suiting(devices: Iterable[OfferedDevice], need: _Need) -> Iterator[tuple[Place, frozenset[int]]]:
    """By place, the numbers of the devices that suit a need, lent ones too."""
    found: dict[Place, list[int]] = defaultdict(list)
    for number, one in enumerate(devices):
        if one.kind != need.kind or (need.location is not None and one.location != need.location):
            continue
        if need.gpu is None or need.gpu.lower() in one.model.lower():
            found[(one.backend, one.location)].append(number)
    for place, numbers in sorted(found.items()):
        yield place, frozenset(numbers)


def _harm(victims: Sequence[RunningJob]) -> tuple[int, int]:
    """Of two choices the one that hits the less important, then the fewer, is better."""
    return max(victim.priority for victim in victims), len(victims)
