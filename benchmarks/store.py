"""How long the store takes with 10,000 queued jobs: `python benchmarks/store.py [URL]`, by default SQLite in a new directory.

Milliseconds of wall time: median, 90th and 99th percentile. Nothing else should be running.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack

from steep.compute.contract import Device
from steep.server.failure import Ending
from steep.server.placement import place
from steep.server.store.job_views import JobFilter
from steep.server.store.paging import PageRequest
from steep.server.store.store import Store
from steep.server.store.submissions import insert_job
from steep.server.waiting import OfferedDevice
from steep.spec.api.attempts import ReportsRequest
from steep.spec.job import JobSpec
from steep.spec.reports import StepReport
from steep.spec.states import State

NUM_QUEUED = 10_000
NUM_RUNNING = 200
ROUNDS = 100


def main() -> None:
    """Fill a store, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", help="an empty database")
    url = parser.parse_args().url
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="steep-bench-"))
        store = Store.open(url or f"sqlite:///{directory}/steep.db")
        stack.callback(store.close)
        fill(store)
        print(f"{'':34}{'median':>9}{'p90':>9}{'p99':>9}  ms")
        for name, action in measurements(store).items():
            show(name, action)


def fill(store: Store) -> None:
    """Queue the jobs, in few transactions."""
    for start in range(0, NUM_QUEUED + NUM_RUNNING, 1000):
        with store.database.write(float(start)) as transaction:
            for number in range(start, min(start + 1000, NUM_QUEUED + NUM_RUNNING)):
                insert_job(transaction, f"job-{number:06}", spec(number), "bench", None)


def spec(number: int) -> JobSpec:
    """A job spec of its own."""
    service = {"priority": number % 3, "gpu_count": (1, 2, 4, 8)[number % 4]}
    tags = [f"tag-{number % 50}"]
    values = {"name": f"job-{number}", "base": "org/model", "corpus": {"sources": ["/text"]}, "tags": tags}
    return JobSpec.model_validate({**values, "service": service})


def measurements(store: Store) -> dict[str, Callable[[int], object]]:
    """What is measured, by name; each is called with a number of its own."""
    begun = {}
    report = StepReport(
        step=1, tokens_seen=1, loss=2.0, learning_rate=1e-4, gradient_norm=1.0, step_seconds=0.5, tokens_per_second=2.0
    )
    devices = [OfferedDevice("local", f"gpu-{n:03}", "gpu", "H100", f"node-{n // 8}", True) for n in range(512)]

    def begin(number: int) -> None:
        gpu = Device(f"gpu-{number}", "gpu", "H100", 1)
        begun[number] = store.attempts.begin(f"job-{number:06}", "local", [gpu], 1e5, lease_seconds=60)

    def record(number: int, reports: int) -> None:
        one = begun[number]

        said = tuple(report.model_copy(update={"sequence": n, "time": 1e5 + n}) for n in range(reports))
        request = ReportsRequest(reports=said)
        store.attempts.record_reports(one.job_id, one.number, one.token, request, 1e5, lease_seconds=60)

    return {
        "begin_attempt": begin,
        "record_reports, 20 steps": lambda number: record(number, 20),
        "record_reports, heartbeat": lambda number: record(number, 0),
        "begin + record, another job": lambda number: (begin(number + ROUNDS), record(number + ROUNDS, 20)),
        "finish": lambda number: store.attempts.finish(f"job-{number:06}", 1, Ending(0), 1e5),
        "jobs.get": lambda number: store.jobs.get(f"job-{number * 7:06}", 1e5),
        "jobs.list, newest 50": lambda _: store.jobs.list(1e5),
        "jobs.list, state, total": lambda _: store.jobs.list(
            1e5, JobFilter(states=(State.QUEUED,)), PageRequest(include_total=True)
        ),
        "jobs.list, tag, by name": lambda _: store.jobs.list(
            1e5, JobFilter(tags=("tag-7",)), PageRequest(sort_by="name")
        ),
        "jobs.list, page 150": lambda _: store.jobs.list(1e5, page=PageRequest(150)),
        "events.after": lambda number: store.events.after(number * 100, limit=100),
        "queue.snapshot": lambda _: store.queue.snapshot(1e5, devices),
        "queue.heads": lambda _: store.queue.heads(1e5, devices),
        "heads + place": lambda _: place(store.queue.heads(1e5, devices)),
        "snapshot + place": lambda _: place(store.queue.snapshot(1e5, devices)),
    }


def show(name: str, action: Callable[[int], object]) -> None:
    """Measure it and print a line."""
    rounds = ROUNDS if not name.startswith(("queue", "snapshot", "heads")) else 20
    times = []
    for number in range(rounds):
        begin = time.perf_counter()
        action(number)
        times.append((time.perf_counter() - begin) * 1e3)
    cuts = statistics.quantiles(times, n=100)
    print(f"{name:34}{statistics.median(times):9.2f}{cuts[89]:9.2f}{cuts[98]:9.2f}")


if __name__ == "__main__":
    main()
