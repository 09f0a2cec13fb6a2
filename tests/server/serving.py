"""Real servers for tests: in a thread of this process, or as a process of their own that can be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import uvicorn

from steep import Client
from steep.client.config import read_config
from steep.compute.contract import Backend
from steep.server.app import make_app
from steep.server.loops.all import Loops
from steep.server.secretbox import SecretBox
from steep.server.service import Service
from steep.server.settings import ServerSettings
from steep.server.store.store import Store
from steep.server.tracing import Traces
from steep.server.webserver import web_config
from steep.spec.api.keys import KeyRequest, Role

WAIT_SECONDS = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


# ------------------------------------------------------------------------------------------------------- in this process


@dataclass
class Serving:
    """A server in a thread, and keys for it."""

    service: Service
    address: str

    def key(self, role: Role = "admin", project: str | None = None, **more: object) -> str:
        request = KeyRequest(name=f"a {role}'s", role=role, project=project, **more)
        return self.service.store.keys.create(request, self.service.now()).secret

    def client(self, role: Role = "admin", project: str | None = None) -> Client:
        return Client(self.address, self.key(role, project))

    def http(self, key: str | None = None) -> httpx.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.address, headers=headers, timeout=20)


@contextmanager
def serving(
    data: Path,
    backends: dict[str, Backend] | None = None,
    *,
    loops: bool = False,
    traces: Traces | None = None,
    **changes: object,
) -> Iterator[Serving]:
    port = free_port()
    settings = replace(ServerSettings(data=data, port=port, warm=False), **changes)  # type: ignore[arg-type]
    for name in ("runs", "files", "logs"):
        (data / name).mkdir(parents=True, exist_ok=True)
    store = Store.open(settings.database_url)
    store.projects.ensure("default", time.time())
    service = Service(settings, store, backends or {}, SecretBox.at(data / "secrets.key"))
    service.traces = traces or service.traces
    work = Loops(service)
    app = make_app(service, on_start=work.start, on_end=work.end) if loops else make_app(service)
    server = uvicorn.Server(web_config(app, settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, 20)
        yield Serving(service, settings.address)
    finally:
        service.let_go()
        server.should_exit = True
        thread.join()
        service.close()


# ------------------------------------------------------------------------------------------------ a process of its own


@dataclass
class ServerProcess:
    """`python -m steep.server`, at the same address each time that it is started."""

    data: Path
    root: Path
    arguments: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": str(self.data.parent / "config"),
            "STEEP_CACHE": str(self.data.parent / "cache"),
        }  # fmt: skip
        self.data.mkdir(exist_ok=True)
        with open(self.data.parent / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "steep.server", "--data", self.data, "--port", str(self.port), "--root", self.root,
                 "--local-key", *self.arguments],
                env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(self._is_ready)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def client(self) -> Client:
        settings = read_config(self.data.parent / "config" / "steep" / "config.toml")
        assert settings is not None
        return Client(settings.server, settings.key)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.data.parent / "server.log").read_text()
        try:
            return httpx.get(f"{self.address}/readyz").status_code == 200
        except httpx.TransportError:
            return False
