"""Databases for tests: SQLite files, and a real PostgreSQL started from the system's binaries, where it has any."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg

from steep.server.store.migrate import migrate
from steep.server.store.projects import DEFAULT
from steep.server.store.store import Store
from steep.server.store.tables import counters, metadata, projects

_START_SECONDS = 60


@dataclass
class Databases:
    """Makes new databases, each with the tables of this version."""

    kind: str
    directory: Path
    socket: Path | None = None
    server: PostgreSQL | None = None
    _numbers: Iterator[int] = field(default_factory=count)

    def new(self) -> str:
        """The URL of one that nobody else uses."""
        name = f"steep_{next(self._numbers)}"
        if self.socket is None:
            path = self.directory / f"{name}.db"
            shutil.copyfile(self._pattern_file(), path)
            return f"sqlite:///{path}"
        self._pattern_database()
        self._run(f"CREATE DATABASE {name} TEMPLATE pattern")
        return self.url(name)

    def empty(self) -> str:
        """The URL of one without tables."""
        name = f"steep_{next(self._numbers)}"
        if self.socket is None:
            return f"sqlite:///{self.directory / name}.db"
        self._run(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name: str) -> str:
        """The URL of a PostgreSQL database."""
        return f"postgresql://steep@/{name}?host={self.socket}"

    def _pattern_file(self) -> Path:
        path = self.directory / "pattern.db"
        if not path.exists():
            migrate(f"sqlite:///{path}")
        return path

    def _pattern_database(self) -> None:
        if (self.directory / "pattern").exists():
            return
        self._run("CREATE DATABASE pattern")
        migrate(self.url("pattern"))
        (self.directory / "pattern").touch()

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)


def clear(store: Store) -> None:
    """Make a store as it was when it was new."""
    with store.database.write(0.0) as transaction:
        for table in reversed(metadata.sorted_tables):
            if table.name not in ("counters", "projects"):
                transaction.execute(table.delete())
        transaction.execute(projects.delete().where(projects.c.name != DEFAULT))
        transaction.execute(projects.update().values(quota_gpus=None, quota_jobs=None, quota_stored_bytes=None))
        transaction.execute(counters.update().values(value=0))


@contextmanager
def sqlite_databases() -> Iterator[Databases]:
    """SQLite files."""
    with tempfile.TemporaryDirectory(prefix="steep-", dir=_place()) as directory:
        yield Databases("sqlite", Path(directory))


def why_no_postgresql() -> str | None:
    """Why PostgreSQL cannot be started here, or nothing."""
    if _programs() is None:
        return "PostgreSQL's initdb and postgres are not installed here"
    if os.geteuid() == 0 and _somebody() is None:
        return "PostgreSQL does not run as root, and there is no user postgres or nobody"
    return None


@contextmanager
def postgresql_databases() -> Iterator[Databases]:
    """A PostgreSQL of its own, on a socket in a temporary directory; it ends with the block."""
    programs, user = _programs(), _somebody()
    assert programs is not None
    with (
        tempfile.TemporaryDirectory(prefix="steep-pg-", dir=_place(), ignore_cleanup_errors=True) as directory,
        tempfile.TemporaryDirectory() as own,
    ):
        home = Path(directory)
        options: dict[str, object] = {"cwd": "/", "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        if user is not None:
            os.chown(home, user.pw_uid, user.pw_gid)
            options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        initialised = [
            programs / "initdb",
            "-D",
            home / "data",
            "-A",
            "trust",
            "-U",
            "steep",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        subprocess.run(initialised, check=True, timeout=_START_SECONDS, **options)  # type: ignore[call-overload]
        server = PostgreSQL(programs, home, options)
        try:
            server.start()
            yield Databases("postgresql", Path(own), home, server)
        finally:
            server.end()


class PostgreSQL:
    """A server on a socket in its home, which can be ended and started again; what was committed is there then."""

    def __init__(self, programs: Path, home: Path, options: dict[str, object]) -> None:
        settings = (
            "listen_addresses=",
            "fsync=off",
            "max_connections=200",
            "shared_buffers=32MB",
            "log_min_messages=panic",
        )
        self._command = [programs / "postgres", "-D", home / "data", "-k", home]
        for setting in settings:
            self._command += ["-c", setting]
        self._options = options
        self._url = f"postgresql://steep@/postgres?host={home}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process: subprocess.Popen[bytes] = subprocess.Popen(self._command, **self._options)  # type: ignore[call-overload]
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self._url).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, "PostgreSQL ended at once"
                assert time.monotonic() < deadline, "PostgreSQL did not start in time"
                time.sleep(0.05)

    def end(self) -> None:
        """End it at once, as a crash would."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(timeout=_START_SECONDS)


def _place() -> Path | None:
    """In memory where the system has a place for that: these databases are many, and none outlives its tests."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None


def _programs() -> Path | None:
    there = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = shutil.which("postgres")
    there += [Path(found).resolve().parent] if found else []
    return next((one for one in there if (one / "initdb").exists() and (one / "postgres").exists()), None)


def _somebody() -> pwd.struct_passwd | None:
    """Whom to run PostgreSQL as, where this is root, whom it refuses."""
    if os.geteuid() != 0:
        return None
    names = {one.pw_name: one for one in pwd.getpwall()}
    return names.get("postgres") or names.get("nobody")
