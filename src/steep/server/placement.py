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
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from steep.server.waiting import Need, Place, RunningJob, Snapshot, WaitingJob, need_of, queue_order, suiting
from steep.spec.states import Reason
from steep.spec.units import format_bytes

MAX_PREEMPTIONS = 50
"""In one round, so that it stays short; the next one goes on."""

NUM_COUNTED = 100
"""Sentences count the jobs ahead up to here, so that they need not all be written anew when one job of thousands begins."""


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

    spots: Collection[_Spot]
    fits: _Spot | None = None
    will_fit: _Spot | None = None
    best: _Spot | None = None


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
        self._suiting: dict[Need, list[tuple[Place, frozenset[int]]]] = {}
        self._spots: dict[Need, dict[Place, _Spot]] = {}
        self._chances: dict[Need, _Chance] = {}
        self._sentences: dict[tuple[Need, int], str] = {}
        self._lowest = min((job.priority for job in snapshot.running if not job.stopping), default=None)
        self._no_victims: dict[Need, int] = {}  # the highest priority for which none were found; there are never more
        self._decisions = Decisions()

    def decide(self) -> Decisions:
        """Go through the queue once."""
        for position, job in enumerate(queue_order(self._snapshot), 1):
            need = need_of(job, self._has_gpus)
            over = self._over_quota(job, need)
            if over is not None:
                self._wait(job, Reason.WAITING_FOR_QUOTA, over, position)
            elif not self._try(job, need):
                self._wait(job, Reason.WAITING_FOR_DEVICES, self._sentence(need, position), position)
        return self._decisions

    def _wait(self, job: WaitingJob, reason: Reason, detail: str, position: int) -> None:
        self._decisions.waits.append(Wait(job.id, reason, detail, position))

    # --------------------------------------------------------------------------------------------------------- quotas

    def _over_quota(self, job: WaitingJob, need: Need) -> str | None:
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

    def _try(self, job: WaitingJob, need: Need) -> bool:
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

    def _chance(self, need: Need) -> _Chance:
        """How things stand for a need; looked at anew only after something has changed."""
        if need not in self._chances:
            spots = self._find(need)
            fitting = [spot for spot in spots if len(spot.free) >= need.size]
            if fitting:  # large room stays whole
                self._chances[need] = _Chance(spots, fits=min(fitting, key=lambda spot: (len(spot.free), spot.place)))
            else:
                enough = [spot for spot in spots if spot.in_sight >= need.size]
                some = [spot for spot in spots if spot.in_sight]
                self._chances[need] = _Chance(
                    spots,
                    will_fit=max(enough, key=lambda spot: (len(spot.free), spot.place), default=None),
                    best=max(some, key=lambda spot: (spot.in_sight, spot.place), default=None),
                )
        return self._chances[need]

    def _find(self, need: Need) -> Collection[_Spot]:
        if need not in self._spots:
            large = ((place, numbers) for place, numbers in self._suited(need) if len(numbers) >= need.size)
            self._spots[need] = {place: self._spot(place, numbers) for place, numbers in large}
        return self._spots[need].values()

    def _spot(self, place: Place, numbers: frozenset[int]) -> _Spot:
        return _Spot(place, numbers, numbers & self._free, numbers & self._coming)

    def _has_changed(self, place: Place) -> None:
        """Devices of a place were lent, kept or asked back."""
        self._chances.clear()
        for spots in self._spots.values():
            if place in spots:
                spots[place] = self._spot(place, spots[place].all)

    def _suited(self, need: Need) -> list[tuple[Place, frozenset[int]]]:
        if need not in self._suiting:
            self._suiting[need] = list(suiting(self._devices, need))
        return self._suiting[need]

    def _lend(self, job: WaitingJob, need: Need, spot: _Spot) -> None:
        chosen = heapq.nsmallest(need.size, spot.free)
        self._free.difference_update(chosen)
        self._has_changed(spot.place)
        names = tuple(self._devices[number].id for number in chosen)
        self._decisions.placements.append(Placement(job.id, spot.place[0], names))
        self._jobs[job.project] += 1
        self._gpus[job.project] += need.size if need.kind == "gpu" else 0

    def _keep(self, spot: _Spot, need: Need) -> None:
        """Nobody behind gets these: the free ones, then those that soon will be, as many as are needed."""
        kept = heapq.nsmallest(need.size, spot.free)
        kept += heapq.nsmallest(need.size - len(kept), spot.coming)
        if kept:
            self._free.difference_update(kept)
            self._coming.difference_update(kept)
            self._has_changed(spot.place)

    # ------------------------------------------------------------------------------------------------------ preemption

    def _preempt(self, job: WaitingJob, need: Need, spots: Collection[_Spot]) -> _Spot | None:
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
        for place in {(self._devices[number].backend, self._devices[number].location) for number in freed}:
            self._has_changed(place)
        for victim in victims:
            detail = f"yields to job {job.id}, whose priority is {job.priority} and not {victim.priority}"
            self._decisions.preemptions.append(Preemption(victim.id, job.id, detail))
        return self._spots[need][chosen.place]

    def _victims(self, job: WaitingJob, need: Need, spot: _Spot) -> list[RunningJob]:
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

    def _sentence(self, need: Need, position: int) -> str:
        ahead = min(position - 1, NUM_COUNTED + 1)
        if (need, ahead) not in self._sentences:
            self._sentences[(need, ahead)] = self._missing(need) or f"waiting for {need}; {_ahead(ahead)}"
        return self._sentences[(need, ahead)]

    def _missing(self, need: Need) -> str | None:
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


def _harm(victims: Sequence[RunningJob]) -> tuple[int, int]:
    """Of two choices the one that hits the less important, then the fewer, is better."""
    return max(victim.priority for victim in victims), len(victims)
