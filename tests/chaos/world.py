"""What chaos befalls: servers that are started again when they die, a database, a store, a disk, a line, and tiny jobs."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.lines import Bytes, Requests
from tests.chaos.worker import JOURNAL, entries
from tests.contract.databases import Databases, PostgreSQL, postgresql_databases, sqlite_databases
from tests.server.serving import free_port

from steep.compute.local.processes import Process, is_alive
from steep.server.failure import FailurePolicy
from steep.server.settings import Patience
from steep.server.store.store import Store
from steep.spec.api.keys import KeyRequest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = Patience(lease=4.0, unreachable=10.0, cancel=8.0, stop=10.0, loop=2.0, look=0.2)
POLICY = FailurePolicy(first_delay_seconds=0.2, max_delay_seconds=1.0)
SLOTS = 2
DISK = "256m"
BUCKET = "chaos"


@dataclass
class Replica:
    """A server that is started again a while after it died, as by any supervisor."""

    directory: Path
    environment: dict[str, str]
    settings: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    start_at: float = 0.0

    @property
    def clock(self) -> Path:
        return Path(self.settings["clock"])

    def look(self) -> None:
        """Start it where that is due."""
        if self.process is not None and self.process.poll() is not None:
            self.process = None
            self.start_at = max(self.start_at, time.monotonic() + 0.3)
        if self.process is None and time.monotonic() >= self.start_at:
            self._start()

    def kill(self, down_seconds: float) -> None:
        self.start_at = time.monotonic() + down_seconds
        if self.process is not None:
            self.process.kill()

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _start(self) -> None:
        file = self.directory / "settings.json"
        file.write_text(json.dumps(self.settings))
        with open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.server", file],
                cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.starts += 1


@dataclass
class World:
    """Everything of it.

    Args:
        kind: of the database: sqlite (one server), or postgresql (two).
        directory: where it lies.
        data: the data directory of the servers, on a disk of its own where this user may mount one.
        text: what jobs read.
    """

    kind: str
    directory: Path
    data: Path
    text: Path
    databases: Databases
    database: str
    line: Requests
    has_small_disk: bool
    bucket: str
    bucket_line: Bytes | None
    replicas: list[Replica] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.store = Store.open(self.database, migrate=False)
        self.key = self.store.keys.create(KeyRequest(name="chaos", role="admin"), time.time()).secret
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)

    @property
    def journal(self) -> Path:
        return self.directory / "journal"

    @property
    def death(self) -> Path:
        """The order that a server dies by, see `server.py`."""
        return self.directory / "death.json"

    @property
    def postgresql(self) -> PostgreSQL | None:
        return self.databases.server

    def living(self) -> list[tuple[str, int, Process]]:
        """Workers that are alive: their job, attempt and process."""
        return [(one.job, one.attempt, one.process) for one in entries(self.journal) if is_alive(one.process)]

    def begin(self) -> None:
        """Start the servers, and keep them started."""
        self._supervisor.start()

    def end(self) -> None:
        """End the servers, and every worker that is left."""
        self._over.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        for replica in self.replicas:
            replica.end()
        for _, _, process in self.living():
            os.kill(process.pid, signal.SIGKILL)
        self.store.close()

    def spec(self, name: str, *, store: str | None, steps: int, priority: int = 0) -> dict[str, Any]:
        """A job that trains a model of some thousand weights; all of them end with the same."""
        config = {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 2, "max_position_embeddings": 128,
        }  # fmt: skip
        return {
            "name": name,
            "base": {"from_scratch": {"config": config, "vocab_size": 300}},
            "corpus": {"sources": [str(self.text)], "holdout": "20%", "dedup": {"near": None}},
            "replay": "none",
            "training": {
                "budget": f"{steps} steps", "sequence_tokens": 128, "global_batch_tokens": 2048, "learning_rate": 3e-3,
                "precision": "fp32",
            },
            "checkpoints": {"every": "10 steps", "keep_last": 2, **({} if store is None else {"store": store})},
            "evaluation": {"max_tokens": 500, "interpolate": [], "forgetting_budget": 1.0},
            "service": {"max_attempts": 100, "priority": priority},
        }  # fmt: skip

    def _supervise(self) -> None:
        while not self._over.wait(0.1):
            for replica in self.replicas:
                replica.look()


@contextmanager
def world(kind: str, seed: int, directory: Path) -> Iterator[World]:
    """A world on SQLite with one server and a directory as its store, or on PostgreSQL with two servers and S3 (moto)."""
    with ExitStack() as stack:
        databases = stack.enter_context(sqlite_databases() if kind == "sqlite" else postgresql_databases())
        has_small_disk = stack.enter_context(_small_disk(directory / "disk"))
        database = databases.new()
        if kind == "sqlite":  # on the disk that may be full
            database = f"sqlite:///{shutil.move(database.removeprefix('sqlite:///'), directory / 'disk' / 'steep.db')}"
        ports = [free_port() for _ in range(1 if kind == "sqlite" else 2)]
        line = Requests(ports, seed)
        stack.callback(line.close)
        bucket, bucket_line = _store(kind, directory, stack)
        made = World(
            kind, directory, directory / "disk" / "data", _write_text(directory / "text"), databases, database, line,
            has_small_disk, bucket, bucket_line,
        )  # fmt: skip
        stack.callback(made.end)
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", "OMP_NUM_THREADS": "1", JOURNAL: str(made.journal),
            "XDG_CONFIG_HOME": str(directory / "config"), "STEEP_CACHE": str(directory / "cache"),
        }  # fmt: skip
        made.data.mkdir()
        for number, port in enumerate(ports):
            home = directory / f"server-{number}"
            home.mkdir()
            settings = {
                "data": str(made.data), "database": database, "port": port, "address": line.address, "root": str(directory),
                "slots": SLOTS, "patience": asdict(PATIENCE), "policy": asdict(POLICY), "death": str(made.death),
                "clock": str(home / "clock"),
            }  # fmt: skip
            made.replicas.append(Replica(home, environment, settings))
        yield made


@contextmanager
def _small_disk(where: Path) -> Iterator[bool]:
    """A file system with little room, where this user may mount one; else a directory. Yields which it is."""
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(where)]
    is_mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", where], check=True)


def _store(kind: str, directory: Path, stack: ExitStack) -> tuple[str, Bytes | None]:
    """Where checkpoints are copied to: its URL, and the line to it. What S3 needs to know is in the environment meanwhile."""
    if kind == "sqlite":
        (directory / "bucket").mkdir()
        return str(directory / "bucket"), None
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    stack.callback(server.stop)
    line = Bytes(server.get_host_and_port()[1])
    stack.callback(line.close)
    variables = {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": line.address,
    }  # fmt: skip
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=line.address,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket=BUCKET)
    client.close()
    os.environ |= variables
    for name in variables:
        stack.callback(os.environ.pop, name)
    return f"s3://{BUCKET}/copies", line


def _write_text(place: Path) -> Path:
    place.mkdir()
    for number in range(60):
        lines = (
            f"Kettle {number} holds {number + line} cups of tea, and tea number {line * 7} is strong.\n"
            for line in range(60)
        )
        (place / f"{number}.txt").write_text("".join(lines))
    return place


def wait_until(condition: Callable[[], object], seconds: float) -> bool:
    """Whether it came to pass in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True
