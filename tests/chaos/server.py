"""A server for the chaos suite: `python -m tests.chaos.server SETTINGS.json`.

It is made of the product's own parts, with what no command line offers: little patience, a clock that jumps, workers that
enter a journal, and a death right before or right after the commit of a transition that is named in a file.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steep.artifacts.files import make_directory
from steep.compute.local.backend import LocalBackend
from steep.compute.local.starting import Program
from steep.server.app import make_app
from steep.server.failure import FailurePolicy
from steep.server.logs import begin_logging
from steep.server.loops.all import Loops
from steep.server.secretbox import SecretBox
from steep.server.service import Service
from steep.server.settings import Bounds, Patience, ServerSettings
from steep.server.store.database import Database, Transaction
from steep.server.store.projects import DEFAULT
from steep.server.store.store import Store
from steep.server.webserver import StoppableServer, web_config

WORKER = Program("tests.chaos.worker")
_AT_THE_CALLER = 2  # frames up from `mortal`: contextlib's, then that of whoever wrote `with ...write(...)`


def main() -> None:
    """Serve until a signal comes, or death."""
    wanted = json.loads(Path(sys.argv[1]).read_text())
    begin_logging(logging.INFO)
    service = open_service(wanted)
    try:
        loops = Loops(service)
        app = make_app(service, on_start=loops.start, on_end=loops.end)
        StoppableServer(web_config(app, service.settings), service.news.end).run()
    finally:
        service.close()


def open_service(wanted: dict[str, Any]) -> Service:
    """As `Service.open` does it, with the settings of the file."""
    data = Path(wanted["data"])
    settings = ServerSettings(
        data=data,
        database=wanted["database"],
        port=wanted["port"],
        public_address=wanted["address"],
        roots=(Path(wanted["root"]),),
        cpu_slots=wanted["slots"],
        patience=Patience(**wanted["patience"]),
        policy=FailurePolicy(**wanted["policy"]),
        bounds=Bounds(requests_per_second=1000, burst_requests=1000),
    )
    for directory in ("runs", "files", "logs"):
        make_directory(data / directory)
    store = Store.open(settings.database_url)
    store.projects.ensure(DEFAULT, time.time())
    die_as_told(store.database, Path(wanted["death"]))
    local = LocalBackend(data, cpu_slots=settings.cpu_slots, program=WORKER)
    box = SecretBox.at(data / "secrets.key")
    return Service(settings, store, {local.name: local}, box, jumping_clock(Path(wanted["clock"])))


def jumping_clock(file: Path) -> Callable[[], float]:
    """The time, and as many seconds more as stand in a file."""

    def now() -> float:
        try:
            return time.time() + float(file.read_text() or 0)
        except FileNotFoundError:
            return time.time()

    return now


def die_as_told(database: Database, order: Path) -> None:
    """From now on this process dies at the transition that the order names, whoever of the replicas comes there first."""
    write = database.write

    def told(transition: str, moment: str) -> bool:
        try:
            if json.loads(order.read_text()) != {"transition": transition, "moment": moment}:
                return False
            order.unlink()
        except (FileNotFoundError, ValueError):
            return False
        return True

    @contextmanager
    def mortal(now: float, *, durable: bool = True) -> Iterator[Transaction]:
        transition = sys._getframe(_AT_THE_CALLER).f_code.co_qualname
        with write(now, durable=durable) as transaction:
            yield transaction
            if told(transition, "before"):
                os.kill(os.getpid(), signal.SIGKILL)
        if told(transition, "after"):
            os.kill(os.getpid(), signal.SIGKILL)

    database.write = mortal  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
