"""The server process of a data directory: start it, find it, wait until it is ready, stop it. Workers are not its children.

`DATA/server.json` names it: its process, when that began, and its address.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from steep.spec.errors import InvalidInput, RunBusy, ServerUnavailable, SteepError
from steep.spec.extras import install_extra

READY_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05
LOG_LINES = 15
SERVER = (sys.executable, "-m", "steep.server")
PACKAGES = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "cryptography")


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server at work.

    Args:
        pid: of its process.
        born: when that began, so that another one with the same number is not taken for it.
        address: where it listens.
    """

    pid: int
    born: float
    address: str

    @property
    def lives(self) -> bool:
        """Whether it is there."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - self.born) < 1.0
        except psutil.NoSuchProcess:
            return False


def find_server(data: Path) -> ServerProcess | None:
    """The server that works on a data directory, if one does."""
    try:
        found = ServerProcess(**json.loads(_record(data).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return found if found.lives else None


def log_file(data: Path) -> Path:
    """Where a server that `steep up` started writes its log."""
    return data / "logs" / "server.log"


@contextmanager
def starting(data: Path) -> Iterator[None]:
    """Hold the right to start a server on a data directory, so that two at once do not start two.

    Raises:
        InvalidInput: the directory cannot be made or written.
        RunBusy: another process is at it.
    """
    from steep.artifacts.files import make_directory

    try:
        make_directory(data / "logs")
        data.chmod(0o700)  # secrets lie in it
        stream = open(data / "starting", "ab")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InvalidInput(
            f"cannot be used as a data directory ({error.strerror})", where=str(data), cure="Choose another --data."
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunBusy(
                "another `steep up` is starting a server here", where=str(data), cure="Wait for it."
            ) from None
        yield


def require_free_port(host: str, port: int) -> None:
    """Say that a port is taken before a server fails because of it.

    Raises:
        InvalidInput: it is, or this machine has no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
    except OSError as error:
        raise InvalidInput(
            f"cannot listen at port {port} of {host} ({error.strerror})",
            where="--port",
            cure=f"Give another one, such as --port {port + 1}; or stop what listens there.",
        ) from error


def absent_packages() -> list[str]:
    """Of the packages that a server needs and nothing else does, those that are not installed."""
    return [name for name in PACKAGES if find_spec(name) is None]


def require_packages() -> None:
    """Say how to install what a server needs.

    Raises:
        InvalidInput: some of it is absent.
    """
    if absent := absent_packages():
        what = f"a server needs {', '.join(absent)}, which {'is' if len(absent) == 1 else 'are'} not installed"
        raise InvalidInput(what, where="server", cure=install_extra("server"))


def start_server(data: Path, address: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, so that Ctrl-C reaches it only through whoever started it."""
    with open(log_file(data), "ab") as log:
        process = subprocess.Popen(
            [*SERVER, "--data", str(data), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    record_server(data, process.pid, address)
    return process


def words(flags: Mapping[str, Any]) -> list[str]:
    """The command line of these settings: a list repeats its flag, None and False leave it out."""
    found: list[str] = []
    for name, value in flags.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(flag)
        elif value is not None and value is not False:
            for each in value if isinstance(value, list) else [value]:
                found += [flag, str(each)]
    return found


def record_server(data: Path, pid: int, address: str) -> None:
    """Write down which process serves a data directory, so that `find_server` finds it."""
    import psutil

    from steep.artifacts.files import write_atomic

    server = ServerProcess(pid, float(psutil.Process(pid).create_time()), address)
    write_atomic(_record(data), json.dumps(asdict(server)))


def wait_until_ready(process: subprocess.Popen[bytes], data: Path, address: str) -> None:
    """Wait until a server that was started here answers.

    Raises:
        SteepError: it ended; with the last of what it said, and its exit code where that is one of ours.
        ServerUnavailable: it is there and does not get ready.
    """
    from steep.client.probe import probe

    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise ended(process, data)
        found = probe(address)
        if found is not None and found.ready:
            return
        time.sleep(POLL_SECONDS)
    raise ServerUnavailable(
        f"the server did not get ready within {READY_SECONDS:.0f} s", where=address, cure=f"See {log_file(data)}."
    )


def ended(process: subprocess.Popen[bytes], data: Path) -> SteepError:
    """Why a server that was started here ended by itself, as far as it said."""
    code = process.returncode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    lines = log_file(data).read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    told = "".join(f"\n  {line}" for line in lines)
    error = SteepError(f"the server {how}. Its last words:{told}", where=str(log_file(data)))
    error.exit_code = code if code in (1, 2) else 1
    return error


def stop_server(server: ServerProcess, patience_seconds: float = STOP_SECONDS) -> None:
    """Ask a server to end in good order, and wait for it. Workers go on.

    Raises:
        SteepError: it did not end in time.
    """
    try:
        os.kill(server.pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    until = time.monotonic() + patience_seconds
    while server.lives:
        if time.monotonic() > until:
            raise SteepError(
                f"the server has not ended within {patience_seconds:.0f} s",
                where=f"process {server.pid}",
                cure="Look into its log, or end it with kill -9; jobs and workers survive that too.",
            )
        time.sleep(POLL_SECONDS)


def _record(data: Path) -> Path:
    return data / "server.json"
