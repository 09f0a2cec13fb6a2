"""A whole run of chaos: an undisturbed job for comparison, then blow after blow, then calm, then the verdict."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.faults import FAULTS, Struck, kinds_for
from tests.chaos.plan import Blow, plan
from tests.chaos.users import Users, counts
from tests.chaos.verdict import examine, weights_of
from tests.chaos.worker import entries
from tests.chaos.world import ROOT, World, wait_until, world

from steep.artifacts.rundir import RunDirectory
from steep.spec.job import JobSpec

CALM_SECONDS = 240.0
"""After the last blow, until every job has ended."""


@dataclass
class Report:
    """What was done, and what came of it."""

    kind: str
    seed: int
    struck: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    transitions: set[tuple[str, bool]] = field(default_factory=set)
    jobs: dict[str, int] = field(default_factory=dict)
    attempts: int = 0
    server_starts: int = 0
    acts: int = 0
    troubled: int = 0
    checkpoints: int = 0
    copies: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def run(
    kind: str,
    seed: int,
    count: int,
    directory: Path,
    *,
    steps: int = 150,
    only: tuple[str, ...] = (),
    longest_pause_seconds: float = 2.5,
    living: int = 3,
    tell: Callable[[str], None] = lambda line: None,
) -> Report:
    """Have `count` faults happen to a service, and see whether it has kept its promises.

    Args:
        kind: of the database: sqlite or postgresql.
        seed: of everything that is drawn.
        count: of faults that hit something.
        directory: an empty one, for everything that is written.
        steps: of each job.
        only: kinds of faults; all that are possible here by default.
        longest_pause_seconds: between two blows.
        living: jobs that are there to be worked on at any time; there are two slots.
        tell: is told what happens.
    """
    begun = time.monotonic()
    report = Report(kind, seed)
    with world(kind, seed, directory) as place:
        undisturbed = _undisturbed(place, steps)
        users = Users(place, seed, steps=steps, living=living, cancels=count // 60)
        place.begin()
        users.begin()
        wait_until(place.living, 60)
        blows = plan(seed, 2 * count, only or kinds_for(place), longest_pause_seconds=longest_pause_seconds)
        _strike(place, blows, count, report, tell)
        tell("calm")
        for job in users.wait_for_ends(CALM_SECONDS):
            report.wrong.append(f"{job} has not ended: {place.store.jobs.get(job, time.time()).standing}")
        report.wrong += users.wrong
        assert undisturbed.wait(120) == 0, "the undisturbed run failed"
        found = examine(place, users.submitted, weights_of(directory / "undisturbed"))
        report.wrong += found.wrong
        report.checkpoints, report.copies = found.checkpoints, found.copies
        report.jobs, report.acts = counts(list(users.ends.values())), users.acts
        report.attempts = len(entries(place.journal))
        report.server_starts = sum(replica.starts for replica in place.replicas)
        report.troubled = place.line.troubled
    report.seconds = time.monotonic() - begun
    return report


def _undisturbed(place: World, steps: int) -> subprocess.Popen[bytes]:
    """The same job, without a service and without faults."""
    path = place.directory / "undisturbed"
    path.mkdir()
    RunDirectory(path).write_spec(JobSpec.model_validate(place.spec("undisturbed", store=None, steps=steps)))
    with open(place.directory / "undisturbed.log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "steep.worker", path],
            cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=log, stderr=log,
        )  # fmt: skip


def _strike(place: World, blows: list[Blow], count: int, report: Report, tell: Callable[[str], None]) -> None:
    """Until so many have hit something."""
    mender = _Mender()
    for blow in blows:
        if report.struck.total() == count:
            break
        time.sleep(blow.pause_seconds)
        fault = FAULTS[blow.kind]
        mender.make_way(fault.thing)
        struck = fault.strike(place, blow)
        what = f"{blow.kind} {blow.transition}{' after' if blow.is_late else ''}".strip()
        tell(f"{blow.number:4} {what}{'' if struck else ': nothing to be hit'}")
        if struck is None:
            report.missed[blow.kind] += 1
            continue
        report.struck[blow.kind] += 1
        if blow.transition:
            report.transitions.add((blow.transition, blow.is_late))
        mender.add(fault.thing, struck)
    mender.end()


class _Mender:
    """Undoes what was done when its time has come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: list[tuple[float, str, Struck]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def add(self, thing: str, struck: Struck) -> None:
        with self._lock:
            self._due.append((time.monotonic() + struck.after_seconds, thing, struck))

    def make_way(self, thing: str) -> None:
        """Undo what an earlier fault has done to this thing."""
        self._mend(lambda due, other: other == thing != "")

    def end(self) -> None:
        """Wait until everything is undone."""
        wait_until(lambda: not self._due, 60)
        self._is_over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._is_over.wait(0.05):
            self._mend(lambda due, thing: due <= time.monotonic())

    def _mend(self, is_due: Callable[[float, str], bool]) -> None:
        with self._lock:
            due = [one for one in self._due if is_due(*one[:2])]
            self._due = [one for one in self._due if one not in due]
            for _, _, struck in due:
                struck.mend()
