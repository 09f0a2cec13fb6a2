"""How keepers are started: forked from a warm process where there is one, else as a new program."""

from __future__ import annotations

import logging
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from steep.compute.local.environment import lent_environment, too_late_for
from steep.compute.local.launch import Answer, Launch
from steep.compute.local.records import AttemptRecords, Handle
from steep.spec.errors import SteepError

log = logging.getLogger(__name__)

COLD_ANSWER_SECONDS = 30.0
WARM_ANSWER_SECONDS = 10.0
"""A start is asked for warm and then cold, which with some writing is over within the contract's `LONGEST_SUBMIT_SECONDS`."""

ANEW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Program:
    """What a worker is.

    Args:
        module: as for `python -m`.
        preload: a function, as module:name, that imports what it needs; None: it is always started as a new program.
    """

    module: str = "steep.worker"
    preload: str | None = "steep.worker.preload:preload"


class NotWarm(Exception):
    """There is no warm start now, for the reason said."""


def start_cold(launch: Launch) -> None:
    """Start a keeper as a new program, which starts the worker as another.

    Raises:
        SteepError: it could not be started.
    """
    errors = AttemptRecords(Handle.parse(launch.handle)).stream("stderr")
    with (
        open(errors, "ab") as said,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "steep.compute.local.keeper"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, start_new_session=True, cwd="/",
            env=lent_environment(),
        ) as process,
    ):  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(launch.line())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it says in worker.err why it ended; there is no answer
        if not select.select([process.stdout], [], [], COLD_ANSWER_SECONDS)[0]:
            return  # it takes long; whether it starts is seen from its records
        line = process.stdout.readline()
    if not line:
        raise SteepError("the keeper of the worker could not start", where=str(errors), cure="Read the end of it.")
    Answer.read(line).raise_error()


class WarmProcess:
    """A process in which everything is imported. May be used from any thread.

    Args:
        preload: a function, as module:name, that imports what workers need.
        environment: gives the variables to begin it with, those at the imports.
        log_file: where it says what it has to say.
        anew_seconds: it is not begun again sooner than this after it was begun.
    """

    def __init__(
        self,
        preload: str,
        environment: Callable[[], dict[str, str]],
        log_file: Path,
        anew_seconds: float = ANEW_SECONDS,
    ) -> None:
        self._preload = preload
        self._environment = environment
        self._at_imports: dict[str, str] = {}
        self._log_file = log_file
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._anew_seconds = anew_seconds
        self._begun_at: float | None = None
        self._is_ready = self._is_closed = False
        self._reason = "it has not begun"

    def begin(self) -> None:
        """Start it unless it runs; returns at once, while it imports."""
        with self._guard:
            self._begin()

    def is_ready(self) -> bool:
        """Whether it has imported everything and can fork."""
        with self._guard:
            try:
                self._hear()
            except NotWarm:
                return False
            return True

    def start(self, launch: Launch) -> None:
        """Have it fork a keeper, which forks the worker.

        Raises:
            NotWarm: it cannot now. The keeper may have been forked nevertheless, should the process have ended meanwhile; a
                second one then sees the first.
            SteepError: the worker could not be started.
        """
        with self._guard:
            self._begin()
            connection = self._hear()
            name = too_late_for(self._at_imports, launch.environment)
            if name is not None:
                raise NotWarm(f"{name} is not what it was when libraries were imported")
            try:
                connection.sendall(launch.line())
                answer = self._answer(connection, WARM_ANSWER_SECONDS)
            except OSError as error:
                answer = None
                self._reason = f"it does not answer ({error})"
            if answer is None:
                self._drop()
                raise NotWarm("it ended while it was asked")
        answer.raise_error()

    def close(self) -> None:
        """End it, for good. Workers that it forked go on."""
        with self._guard:
            self._is_closed = True
            self._drop()

    def _begin(self) -> None:
        self._notice_end()
        now = time.monotonic()
        is_early = self._begun_at is not None and now - self._begun_at < self._anew_seconds
        if self._process is not None or self._is_closed or is_early:
            return
        self._begun_at = now
        self._at_imports = self._environment()
        ours, theirs = socket.socketpair()
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with theirs, open(self._log_file, "ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "steep.compute.local.forkserver", str(theirs.fileno()), self._preload],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, pass_fds=(theirs.fileno(),),
                env=self._at_imports, cwd="/", start_new_session=True,
            )  # fmt: skip
        self._connection = ours
        self._is_ready = False

    def _notice_end(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            self._reason = f"it ended with code {self._process.returncode}, see {self._log_file}"
            log.warning("There is no warm start: %s.", self._reason)
            self._drop()

    def _hear(self) -> socket.socket:
        """The connection, once it can fork."""
        self._notice_end()
        if self._connection is None:
            raise NotWarm(self._reason)
        if self._is_ready:
            return self._connection
        if not select.select([self._connection], [], [], 0)[0]:
            raise NotWarm("it is still importing")
        try:
            answer = self._answer(self._connection, 1.0)
        except OSError:
            answer = None
        if answer is None or answer.what:
            self._reason = answer.what if answer is not None else f"it ended early, see {self._log_file}"
            log.warning("There is no warm start: %s.", self._reason)
            self._drop()
            raise NotWarm(self._reason)
        self._is_ready = True
        return self._connection

    @staticmethod
    def _answer(connection: socket.socket, patience_seconds: float) -> Answer | None:
        """The next line; None when the other side is gone.

        Raises:
            TimeoutError: it takes too long.
        """
        connection.settimeout(patience_seconds)
        line = b""
        while not line.endswith(b"\n"):
            received = connection.recv(1 << 16)
            if not received:
                return None
            line += received
        return Answer.read(line)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()  # the end of the connection would do, but not while it imports
            self._process.wait()
        self._process = self._connection = None
        self._is_ready = False
