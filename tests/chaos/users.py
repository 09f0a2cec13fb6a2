"""Those who use the service meanwhile: they submit, pause, resume and cancel jobs, and remember every end that they are told of."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Sequence
from typing import Any

from tests.chaos.world import World, wait_until

from steep import Client
from steep.client.job import Job
from steep.spec.errors import Conflict, ServerUnavailable, SteepError
from steep.spec.states import State

LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 60.0


class Users:
    """A thread that acts by chance.

    Args:
        world: whose servers they use.
        seed: of what they do.
        steps: of each job.
        living: so many jobs are there to be worked on at any time.
        cancels: jobs that may be cancelled, at most.
    """

    def __init__(self, world: World, seed: int, *, steps: int, living: int, cancels: int) -> None:
        self.submitted: list[str] = []
        self.ends: dict[str, State] = {}
        self.wrong: list[str] = []
        self.acts = 0
        self._world = world
        self._chance = random.Random(seed)
        self._steps = steps
        self._living = living
        self._cancels = cancels
        self._is_closing = threading.Event()
        self._is_over = threading.Event()
        self._client = Client(world.line.address, world.key, patience_seconds=PATIENCE_SECONDS)
        self._thread = threading.Thread(target=self._work, daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def wait_for_ends(self, seconds: float) -> list[str]:
        """Submit no more, let held jobs go on, and wait until all have ended. Returns those that have not."""
        self._is_closing.set()
        wait_until(lambda: len(self.ends) == len(self.submitted), seconds)
        self._is_over.set()
        self._thread.join(PATIENCE_SECONDS + 10)
        self._client.close()
        return [job for job in self.submitted if job not in self.ends]

    def _work(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            try:
                self._look()
            except ServerUnavailable:
                continue  # for longer than they are patient; they come again
            except SteepError as error:
                self.wrong.append(f"users were told: {error!r}")

    def _look(self) -> None:
        jobs = list(self._client.jobs.list())
        for job in jobs:
            told = self.ends.get(job.id)
            if told is not None and job.state is not told:
                self.wrong.append(f"{job.id} was {told}, and is {job.state} now")
            if job.standing.is_terminal:
                self.ends[job.id] = job.state
        living = [job for job in jobs if not job.standing.is_terminal]
        for job in living:
            if job.standing.is_paused and (self._is_closing.is_set() or self._chance.random() < 0.5):
                self._act(job, "resume")
        if self._is_closing.is_set():
            return
        if len(living) < self._living:
            self._submit()
        elif self._chance.random() < 0.15:
            job = self._chance.choice(living)
            cancel = self._cancels > 0 and self._chance.random() < 0.1
            self._cancels -= cancel
            self._act(job, "cancel" if cancel else "pause")

    def _submit(self) -> None:
        name = f"job-{len(self.submitted)}"
        priority = self._chance.choice([0, 0, 0, 5])  # now and then one that others have to make room for
        spec: dict[str, Any] = self._world.spec(name, store=self._world.bucket, steps=self._steps, priority=priority)
        self.submitted.append(self._client.jobs.create(spec, idempotency_key=name).id)

    def _act(self, job: Job, verb: str) -> None:
        self.acts += 1
        with contextlib.suppress(Conflict):  # it has ended meanwhile
            getattr(job, verb)()


def counts(ends: Sequence[State]) -> dict[str, int]:
    """How many jobs ended how."""
    return {str(state): ends.count(state) for state in State if state in ends}
