"""The server of `make load`: the product's own, with a backend that pretends, and with a watch on the scheduler.

    python -m benchmarks.load_server SETTINGS.json

The backend lends GPUs that there are not. Every second one of its workers is said to have ended well, so that jobs end and
others begin; what a worker that begins must know to report is written to a file, which those who pretend to be workers read.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from steep.artifacts.files import make_directory
from steep.compute.contract import Capacity, Device, DeviceState, Order, Stream, WorkerStatus
from steep.server.app import make_app
from steep.server.logs import begin_logging
from steep.server.loops import scheduler
from steep.server.loops.all import Loops
from steep.server.secretbox import SecretBox
from steep.server.service import Service
from steep.server.settings import ServerSettings
from steep.server.store.store import Store
from steep.server.webserver import StoppableServer, web_config

Answer = TypeVar("Answer")

END_SECONDS = 1.0
"""Between the ends of two workers: with 500 of them, a job takes eight minutes."""


def gpus(count: int) -> list[Device]:
    """Eight to a node."""
    return [Device(f"gpu-{n:03}", "gpu", "NVIDIA H100 80GB HBM3", 80 << 30, f"node-{n // 8}") for n in range(count)]


class Pretended:
    """A backend whose workers are others' business.

    Args:
        devices: that it has.
        begun: file that is told of workers that begin.
    """

    name = "pretended"

    def __init__(self, devices: list[Device], begun: Path) -> None:
        self._capacity = Capacity(tuple(map(DeviceState, devices)))
        self._begun = begun
        self._ended: set[str] = set()
        self._seen: dict[str, None] = {}
        self._ends_at = time.monotonic()

    def capacity(self) -> Capacity:
        """Asked for in each turn of the scheduler: every so often the worker that is known for longest ends."""
        if time.monotonic() >= self._ends_at and (oldest := next(iter(self._seen), None)):
            self._ends_at += END_SECONDS
            self._ended.add(oldest)
        return self._capacity

    def submit(self, order: Order) -> str:
        handle = f"{order.job_id}/{order.attempt}"
        worker = {"job": order.job_id, "number": order.attempt, "token": order.environment["STEEP_ATTEMPT_TOKEN"]}
        with open(self._begun, "a") as stream:
            stream.write(json.dumps(worker) + "\n")
        return handle

    def status(self, handle: str) -> WorkerStatus:
        if handle in self._ended:
            self._seen.pop(handle, None)
            return WorkerStatus("ended", exit_code=0)
        self._seen.setdefault(handle)
        return WorkerStatus("running")

    def cancel(self, handle: str, *, grace_seconds: float) -> None:
        self._ended.add(handle)

    def logs(self, handle: str, stream: Stream, offset: int) -> bytes:
        return b""


class Watch:
    """Wall and processor seconds of each decision of the scheduler: to read the snapshot, and to place."""

    def __init__(self, store: Store) -> None:
        self.decisions: list[dict[str, float]] = []
        self._parts: dict[str, float] = {}
        store.queue.heads = self._timed("snapshot", store.queue.heads)  # type: ignore[method-assign]
        scheduler.place = self._timed("place", scheduler.place)  # type: ignore[attr-defined]

    def _timed(self, name: str, work: Callable[..., Answer]) -> Callable[..., Answer]:
        def timed(*arguments: Any) -> Answer:
            wall, processor = time.perf_counter(), time.thread_time()
            answer = work(*arguments)
            if threading.current_thread().name == "scheduler":
                self._parts |= {name: time.perf_counter() - wall, f"{name} cpu": time.thread_time() - processor}
                if name == "place":
                    self.decisions.append(dict(self._parts))
            return answer

        return timed


def main() -> None:
    """Serve until SIGTERM, then write down what the watch saw."""
    wanted = json.loads(Path(sys.argv[1]).read_text())
    begin_logging(logging.WARNING)
    data = Path(wanted["data"])
    settings = ServerSettings(data=data, database=wanted["database"], port=wanted["port"])
    for directory in ("runs", "files", "logs"):
        make_directory(data / directory)
    store = Store.open(settings.database_url)
    backend = Pretended(gpus(wanted["devices"]), Path(wanted["begun"]))
    service = Service(settings, store, {backend.name: backend}, SecretBox.at(data / "secrets.key"))
    watch = Watch(store)
    loops = Loops(service)
    app = make_app(service, on_start=loops.start, on_end=loops.end)
    StoppableServer(web_config(app, settings), service.news.end).run()
    service.close()
    Path(wanted["decisions"]).write_text(json.dumps(watch.decisions))


if __name__ == "__main__":
    main()
