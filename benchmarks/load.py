"""`make load`: one server with 10,000 queued jobs and 500 workers that report, and how long it takes to answer.

    python -m benchmarks.load [--store sqlite|postgresql] [--jobs N] [--workers N] [--report-seconds S] [--seconds S]

The server is real, and so is HTTP; the workers are pretended (they say what workers say, and train nothing), and so are their
GPUs. Once in a while a worker ends and another job begins. Milliseconds are those of the client, from the first byte sent to the
last one received. The table goes to docs/results.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from benchmarks.load_server import Pretended, gpus
from benchmarks.results import BEGIN, END, PAGE, ROOT
from tests.contract.databases import postgresql_databases, sqlite_databases
from tests.server.serving import free_port

from steep.server.store.store import Store
from steep.server.store.submissions import insert_job
from steep.spec.api.keys import KeyRequest
from steep.spec.job import JobSpec

GOALS = {"request_ms": 100.0, "decision_ms": 50.0, "memory_mb": 500.0}
NUM_READERS = 5
READS_PER_SECOND = 20.0
WARM_SECONDS = 5.0
SEED = 17


@dataclass
class Load:
    """What the server is given to do, and what was measured meanwhile."""

    port: int
    key: str
    begun: Path
    report_seconds: float
    jobs: list[str]
    until: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: list[str] = field(default_factory=list)
    memory_bytes: int = 0


class Line:
    """A connection that is kept, and speaks as little HTTP as will do."""

    def __init__(self, load: Load, key: str) -> None:
        self._load = load
        self._key = key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, name: str, method: str, path: str, body: bytes = b"") -> bytes:
        """Ask, and note under a name how long it took; a connection that the server let go meanwhile is made anew."""
        request = (
            f"{method} /api/v1{path} HTTP/1.1\r\nHost: load\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        begun = time.perf_counter()
        try:
            head, answer = await self._exchange(request)
        except (asyncio.IncompleteReadError, ConnectionError):
            self._streams = None
            begun = time.perf_counter()
            head, answer = await self._exchange(request)
        self._load.times[name].append(time.perf_counter() - begun)
        if not head.startswith("HTTP/1.1 20"):
            self._load.failed.append(f"{name}: {head.partition(chr(13))[0]} {answer[:200]!r}")
        return answer

    async def _exchange(self, request: bytes) -> tuple[str, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._load.port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:"))
        return head, await reader.readexactly(length)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


async def work(load: Load, worker: dict[str, Any]) -> None:
    """Be a worker: a step a second, told of every so often, until the attempt is over."""
    line, step = Line(load, worker["token"]), 0
    path = f"/attempts/{worker['job']}/{worker['number']}/reports"
    await asyncio.sleep(load.chance.random() * load.report_seconds)
    while time.monotonic() < load.until and not any(worker["job"] in what for what in load.failed):
        steps = range(step, step + max(1, round(load.report_seconds)))
        answer = await line.ask("reports", "POST", path, json.dumps({"reports": list(map(_report, steps))}).encode())
        if b"next_report" not in answer:
            load.failed.pop()  # this one has ended, as the server said
            break
        step = steps.stop
        await asyncio.sleep(load.report_seconds)
    line.close()


def _report(step: int) -> dict[str, Any]:
    return {
        "kind": "step", "sequence": step, "time": time.time(), "step": step + 1, "total_steps": 10_000, "loss": 2.0,
        "tokens_seen": 8192 * (step + 1), "learning_rate": 1e-4, "gradient_norm": 1.0, "step_seconds": 1.0,
        "tokens_per_second": 8192.0, "mfu": 0.4, "peak_memory_bytes": 1 << 34,
    }  # fmt: skip


async def hire(load: Load) -> None:
    """Be the workers of all attempts, those that begin later too."""
    async with asyncio.TaskGroup() as workers:
        known = 0
        while time.monotonic() < load.until:
            lines = load.begun.read_text().splitlines()
            for line in lines[known:]:
                workers.create_task(work(load, json.loads(line)))
            known = len(lines)
            await asyncio.sleep(0.5)


async def read(load: Load) -> None:
    """Be somebody who looks at lists and jobs."""
    line, chance = Line(load, load.key), load.chance
    while time.monotonic() < load.until:
        job = chance.choice(load.jobs)
        name, path = chance.choice(list(_paths(job, chance)))
        await line.ask(name, "GET", path)
        await asyncio.sleep(NUM_READERS / READS_PER_SECOND * chance.uniform(0.5, 1.5))
    line.close()


def _paths(job: str, chance: random.Random) -> Iterator[tuple[str, str]]:
    yield "jobs, newest 50", "/jobs"
    yield "jobs, queued, with their number", "/jobs?state=queued&include_total=true"
    yield "jobs, running", "/jobs?state=running&page_size=50"
    yield "jobs, with a tag, by name", f"/jobs?tag=tag-{chance.randrange(50)}&sort_by=name"
    yield "jobs, page 150", "/jobs?page=150"
    yield "a job", f"/jobs/{job}"
    yield "events of a job", f"/jobs/{job}/events"
    yield "newest events", f"/events?after={chance.randrange(1000, 10_000)}"
    yield "checkpoints of a job", f"/jobs/{job}/checkpoints"
    yield "devices", "/devices?page_size=100"
    yield "status", "/status"


async def watch(load: Load, server: psutil.Process) -> None:
    while time.monotonic() < load.until:
        load.memory_bytes = max(load.memory_bytes, server.memory_info().rss)
        await asyncio.sleep(0.25)


async def drive(load: Load, server: psutil.Process, seconds: float) -> None:
    """All of it at once; what is measured while it warms up is forgotten."""

    async def forget() -> None:
        await asyncio.sleep(WARM_SECONDS)
        load.times.clear()

    load.until = time.monotonic() + WARM_SECONDS + seconds
    async with asyncio.TaskGroup() as all_of_them:
        all_of_them.create_task(hire(load))
        all_of_them.create_task(watch(load, server))
        all_of_them.create_task(forget())
        for _ in range(NUM_READERS):
            all_of_them.create_task(read(load))


# ------------------------------------------------------------------------------------------------------- the beginning


def fill(store: Store, num_queued: int, num_running: int) -> list[dict[str, Any]]:
    """Queue jobs of three projects, and begin so many of them. Returns the workers."""
    total, now = num_queued + num_running, time.time()
    for name in ("docs", "code"):
        store.projects.ensure(name, now)
    for start in range(0, total, 1000):
        with store.database.write(now - 10_000 + start / 10) as transaction:
            for number in range(start, min(start + 1000, total)):
                insert_job(transaction, f"job-{number:06}", _spec(number), "load", None)
    workers = []
    for number, device in enumerate(gpus(num_running)):
        begun = store.attempts.begin(f"job-{number:06}", Pretended.name, [device], now, lease_seconds=600)
        store.attempts.provisioned(begun.job_id, begun.number, f"{begun.job_id}/{begun.number}", now)
        workers.append({"job": begun.job_id, "number": begun.number, "token": begun.token})
    return workers


def _spec(number: int) -> JobSpec:
    service = {
        "priority": number % 3, "gpu_count": (1, 2, 4, 8)[number % 4], "project": ("default", "docs", "code")[number % 3],
    }  # fmt: skip
    values = {"name": f"job-{number}", "base": "org/model", "corpus": {"sources": ["hf://org/text"]}}
    return JobSpec.model_validate({**values, "tags": [f"tag-{number % 50}"], "service": service})


def measure(options: argparse.Namespace, directory: Path, database: str) -> dict[str, Any]:
    """Fill a database, start a server on it, and put the load on."""
    store = Store.open(database)
    workers = fill(store, options.jobs, options.workers)
    key = store.keys.create(KeyRequest(name="load", role="admin"), time.time()).secret
    store.close()
    begun = directory / "begun.jsonl"
    begun.write_text("".join(json.dumps(worker) + "\n" for worker in workers))
    settings = {
        "data": str(directory / "data"), "database": database, "port": free_port(), "devices": options.workers,
        "begun": str(begun), "decisions": str(directory / "decisions.json"),
    }  # fmt: skip
    (directory / "settings.json").write_text(json.dumps(settings))
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.load_server", directory / "settings.json"], cwd=ROOT)
    try:
        _wait_for(settings["port"])
        names = [f"job-{number:06}" for number in range(options.jobs + options.workers)]
        load = Load(settings["port"], key, begun, options.report_seconds, names)
        process = psutil.Process(server.pid)
        before, cpu = time.monotonic(), sum(process.cpu_times()[:2])
        asyncio.run(drive(load, process, options.seconds))
        used = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - before)
    finally:
        server.terminate()
        server.wait(30)
    decisions = json.loads((directory / "decisions.json").read_text())
    return {
        "store": options.store, "jobs": options.jobs, "workers": options.workers, "report_seconds": options.report_seconds,
        "times": load.times, "decisions": decisions, "memory_mb": load.memory_bytes / 1e6, "cpu": used,
        "failed": load.failed, "machine_load": os.getloadavg()[0],
    }  # fmt: skip


def _wait_for(port: int) -> None:
    import httpx

    until = time.monotonic() + 60
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            assert time.monotonic() < until, "the server does not begin"
        time.sleep(0.1)


# -------------------------------------------------------------------------------------------------------------- the table


def table(found: dict[str, Any]) -> str:
    """What was measured: each kind of request, all reads together, decisions, memory."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in _rows(found)) + "\n"


def _rows(found: dict[str, Any]) -> Iterator[list[str]]:
    yield ["", "number", "median ms", "99th percentile ms", "goal ms"]
    yield ["---", "---:", "---:", "---:", "---:"]
    reads = {name: times for name, times in sorted(found["times"].items()) if name != "reports"}
    goal = f"{GOALS['request_ms']:g}"
    for name, times in reads.items():
        yield [name, str(len(times)), *_cuts(times), ""]
    yield [
        "**all lists and reads**",
        str(sum(map(len, reads.values()))),
        *_cuts([one for times in reads.values() for one in times]),
        goal,
    ]
    yield ["reports of workers", str(len(found["times"]["reports"])), *_cuts(found["times"]["reports"]), ""]
    decisions = found["decisions"]
    for name, parts in (("snapshot", ["snapshot"]), ("placement", ["place"])):
        yield [f"{name} of a decision", str(len(decisions)), *_cuts(_sums(decisions, parts)), ""]
    goal = f"{GOALS['decision_ms']:g}"
    yield ["**scheduling decision**", str(len(decisions)), *_cuts(_sums(decisions, ["snapshot", "place"])), goal]
    yield ["the same, processor time", "", *_cuts(_sums(decisions, ["snapshot cpu", "place cpu"])), ""]
    yield ["**memory of the server, MB**", "", f"{found['memory_mb']:.0f}", "", f"{GOALS['memory_mb']:g}"]
    yield ["processor of the server, cores", "", f"{found['cpu']:.2f}", "", ""]
    yield ["load of the machine at the end", "", f"{found['machine_load']:.1f}", "", ""]
    yield ["requests that failed", str(len(found["failed"])), "", "", ""]


def _sums(decisions: list[dict[str, float]], parts: list[str]) -> list[float]:
    return [sum(one[part] for part in parts) for one in decisions]


def _cuts(times: list[float]) -> list[str]:
    if len(times) < 2:
        return ["", ""]
    return [f"{statistics.median(times) * 1e3:.1f}", f"{statistics.quantiles(times, n=100)[98] * 1e3:.1f}"]


def write_page(found: dict[str, Any]) -> None:
    """Put the table between its markers in docs/results.md."""
    begin, end = BEGIN.format("load"), END.format("load")
    head, _, rest = PAGE.read_text().partition(begin)
    told = (
        f"{found['jobs']:,} queued jobs and {found['workers']} workers that report every {found['report_seconds']:g} s, "
        f"on {found['store']}:\n\n"
    )
    PAGE.write_text(f"{head}{begin}\n\n{told}{table(found)}\n{end}{rest.partition(end)[2]}")


def main() -> int:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite", help="the database")
    parser.add_argument("--jobs", type=int, default=10_000, help="that are queued")
    parser.add_argument("--workers", type=int, default=500, help="that report")
    parser.add_argument("--report-seconds", type=float, default=5.0, help="between two reports of a worker")
    parser.add_argument("--seconds", type=float, default=45.0, help="how long to measure")
    parser.add_argument("--print", action="store_true", help="leave the page as it is")
    options = parser.parse_args()
    with ExitStack() as stack:
        databases = stack.enter_context(sqlite_databases() if options.store == "sqlite" else postgresql_databases())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="steep-load-")))
        found = measure(options, directory, databases.new())
    print(table(found))
    for what in found["failed"][:10]:
        print(what)
    if not options.print:
        write_page(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
