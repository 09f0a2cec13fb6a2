"""Somebody who uses a store at random, until it has done enough or is killed: `python -m tests.contract.store_user URL SEED COUNT`."""

from __future__ import annotations

import random
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.contract.makers import begun, gpus, heard, step, submitted

from steep.server.failure import Ending
from steep.server.store.attempts import Begun
from steep.server.store.store import Store
from steep.spec.errors import Conflict, Fenced
from steep.spec.reports import CheckpointReport
from steep.spec.states import Reason

STOPS = [reason for reason in Reason if reason.endswith("_requested")]
ENDINGS = [Ending(0), Ending(3), Ending(-9), Ending(None), Ending(1, step=3)]
NUM_DEVICES = 4


class User:
    """Does one thing after another to the jobs that there are."""

    def __init__(self, store: Store, seed: int) -> None:
        self._store = store
        self._random = random.Random(seed)
        self._mine: list[Begun] = []
        self.now = 1000.0 + seed
        self.refused = 0
        self.begun = 0

    def act(self) -> None:
        """One thing. That it does not fit is no failure: others act too."""
        self.now += self._random.choice([1.0, 1.0, 1.0, 100.0])
        try:
            self._random.choice(
                [self._submit, self._begin, self._begin, self._report, self._report, self._stop, self._end, self._look]
            )()
        except (Conflict, Fenced):
            self.refused += 1

    def _submit(self) -> None:
        if len(self._store.jobs.list(self.now).items) < 8:
            submitted(self._store, self.now, max_attempts=100)

    def _begin(self) -> None:
        waiting = self._store.queue.snapshot(self.now).waiting
        if waiting:
            devices = gpus(*self._random.sample(range(NUM_DEVICES), self._random.choice([1, 1, 2])))
            self._mine.append(begun(self._store, self._random.choice(waiting).id, self.now, devices))
            self.begun += 1

    def _report(self) -> None:
        if self._mine:
            reports = (step(1), CheckpointReport(step=1, event="saved", size_bytes=1))
            heard(self._store, self._random.choice(self._mine), self.now, *reports)

    def _stop(self) -> None:
        jobs = self._store.jobs.list(self.now).items
        if jobs:
            job = self._random.choice(jobs)
            if job.standing.is_paused:
                self._store.jobs.release(job.id, self.now)
            else:
                self._store.jobs.request_stop(job.id, self._random.choice(STOPS), "", self.now)

    def _end(self) -> None:
        living = self._store.attempts.living()
        if living:
            one = self._random.choice(living)
            if self._random.random() < 0.3:
                self._store.attempts.revoke(one.job_id, one.number, "", self.now)
            self._store.attempts.finish(one.job_id, one.number, self._random.choice(ENDINGS), self.now)

    def _look(self) -> None:
        self._store.attempts.expire_leases(self.now)


def act_in_threads(store: Store, seeds: range, count: int) -> list[User]:
    """So many users at once in this process; what goes wrong with any of them is raised."""
    users = [User(store, seed) for seed in seeds]

    def work(user: User) -> None:
        for _ in range(count):
            user.act()

    with ThreadPoolExecutor(len(users)) as pool:
        list(pool.map(work, users))
    return users


if __name__ == "__main__":
    url, seed, count = sys.argv[1:]
    with_threads = Store.open(url, migrate=False)
    print("begins", flush=True)
    act_in_threads(with_threads, range(int(seed), int(seed) + 2), int(count))
    with_threads.close()
