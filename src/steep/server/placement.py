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
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from steep.server.waiting import Need, Place, RunningJob, Snapshot, WaitingJob, need_of, queue_order, suiting
from steep.spec.states import Reason
from steep.spec.units import format_bytes

MAX_PREEMPTIONS = 50
"""In one round, so that it stays short; the next one goes on."""

NUM_COUNTED = 100
"""Sentences count the jobs ahead up to here, so that they need not all be written anew when one job of thousands begins."""

MANY_AHEAD = f"more than {NUM_COUNTED} jobs ahead"
"""How the sentence ends of a job that more are ahead of."""


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
    """What to do. Jobs that are backing off are in none of them, nor are those that wait as is written down already."""

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

    fits: _Spot | None = None
    will_fit: _Spot | None = None
    best: _Spot | None = None


@dataclass(slots=True)
class _Asking:
    """All who ask for the same: what was found for one of them holds for the next, until something changes.

    Args:
        need: what they ask for.
        suited: by place, the devices that suit it.
        spots: of these places, those that are large enough.
        no_victims_up_to: jobs of this priority and below find nobody who must yield to them, and will not in this round.
        chance: how the need can be met, as long as that holds.
        sentences: why they wait, by the number of jobs ahead.
    """

    need: Need
    suited: list[tuple[Place, frozenset[int]]]
    spots: dict[Place, _Spot]
    no_victims_up_to: float
    chance: _Chance | None = None
    sentences: dict[int, str] = field(default_factory=dict)


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
        self._limited = {name for name, project in self._projects.items() if project.is_limited}
        self._lowest = min((job.priority for job in snapshot.running if not job.stopping), default=math.inf)
        self._askings: dict[Need, _Asking] = {}
        self._decisions = Decisions()

    def decide(self) -> Decisions:
        """Go through the queue once. Of thousands nearly all ask for the same few things, and wait as they did before."""
        asking_for: dict[tuple[int | None, str | None, str | None], _Asking] = {}
        waits = self._decisions.waits
        for position, job in enumerate(queue_order(self._snapshot), 1):
            said = (job.gpu_count, job.gpu, job.location)
            asking = asking_for.get(said)
            if asking is None:
                asking = asking_for[said] = self._asking(need_of(job, self._has_gpus))
            over = self._over_quota(job, asking.need) if job.project in self._limited else None
            if over is not None:
                reason, detail = Reason.WAITING_FOR_QUOTA, over
            elif self._try(job, asking):
                continue
            else:
                ahead = min(position - 1, NUM_COUNTED + 1)
                reason, detail = Reason.WAITING_FOR_DEVICES, asking.sentences.get(ahead) or self._say(asking, ahead)
            if detail != job.detail or reason != job.reason:
                waits.append(Wait(job.id, reason, detail, position))
        return self._decisions

    # --------------------------------------------------------------------------------------------------------- quotas

    def _over_quota(self, job: WaitingJob, need: Need) -> str | None:
        project = self._projects[job.project]
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

    def _try(self, job: WaitingJob, asking: _Asking) -> bool:
        """Place a job; or else see to it that its devices come. Returns whether it was placed."""
        chance = asking.chance or self._look(asking)
        if chance.fits is not None:
            self._lend(job, asking.need, chance.fits)
            return True
        if chance.will_fit is not None:
            self._keep(chance.will_fit, asking.need)
        elif job.priority > asking.no_victims_up_to and (spot := self._preempt(job, asking)) is not None:
            self._keep(spot, asking.need)
        elif chance.best is not None and self._snapshot.now - job.queued_at >= self._snapshot.patience_seconds:
            self._keep(chance.best, asking.need)
        return False

    def _asking(self, need: Need) -> _Asking:
        if need not in self._askings:
            suited = list(suiting(self._devices, need))
            large = ((place, numbers) for place, numbers in suited if len(numbers) >= need.size)
            spots = {place: self._spot(place, numbers) for place, numbers in large}
            self._askings[need] = _Asking(need, suited, spots, self._lowest)
        return self._askings[need]

    def _look(self, asking: _Asking) -> _Chance:
        """How things stand for a need; looked at anew only after something has changed."""
        need, spots = asking.need, asking.spots.values()
        fitting = [spot for spot in spots if len(spot.free) >= need.size]
        if fitting:  # large room stays whole
            asking.chance = _Chance(fits=min(fitting, key=lambda spot: (len(spot.free), spot.place)))
            return asking.chance
        enough = [spot for spot in spots if spot.in_sight >= need.size]
        some = [spot for spot in spots if spot.in_sight]
        asking.chance = _Chance(
            will_fit=max(enough, key=lambda spot: (len(spot.free), spot.place), default=None),
            best=max(some, key=lambda spot: (spot.in_sight, spot.place), default=None),
        )
        return asking.chance

    def _spot(self, place: Place, numbers: frozenset[int]) -> _Spot:
        return _Spot(place, numbers, numbers & self._free, numbers & self._coming)

    def _has_changed(self, place: Place) -> None:
        """Devices of a place were lent, kept or asked back."""
        for asking in self._askings.values():
            if place in asking.spots:
                asking.chance = None
                asking.spots[place] = self._spot(place, asking.spots[place].all)

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

    def _preempt(self, job: WaitingJob, asking: _Asking) -> _Spot | None:
        """Ask lower jobs of one place to yield; returns that place as it is then, or nothing when it is enough nowhere."""
        if len(self._decisions.preemptions) >= MAX_PREEMPTIONS:
            asking.no_victims_up_to = math.inf
            return None
        spots = asking.spots.values()
        options = [(victims, spot) for spot in spots if (victims := self._victims(job, asking.need, spot))]
        if not options:
            asking.no_victims_up_to = job.priority
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
            self._decisions.preemptions.append(Preemption(victim.id, job.id, _yields(victim, job)))
        return asking.spots[chosen.place]

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

    def _say(self, asking: _Asking, ahead: int) -> str:
        sentence = self._missing(asking) or f"waiting for {asking.need}; {_ahead(ahead)}"
        asking.sentences[ahead] = sentence
        return sentence

    def _missing(self, asking: _Asking) -> str | None:
        """Why no wait will help, as things are."""
        need = asking.need
        most = max((len(all_of_them) for _, all_of_them in asking.suited), default=0)
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
        return MANY_AHEAD
    return "1 job ahead" if jobs == 1 else f"{jobs} jobs ahead"


def _yields(victim: RunningJob, job: WaitingJob) -> str:
    """Who reads it is told nothing about the jobs of another project."""
    if job.project != victim.project:
        return "yields to a job of another project, whose priority is higher"
    return f"yields to job {job.id}, whose priority is {job.priority} and not {victim.priority}"


def _harm(victims: Sequence[RunningJob]) -> tuple[int, int]:
    """Of two choices the one that hits the less important, then the fewer, is better."""
    return max(victim.priority for victim in victims), len(victims)
