"""The keeper of a worker: a small process, its parent, that stays from its first moment to the last of its children.

Each attempt has one, in a session of its own, so that neither the server's end nor the worker's ends it. It writes the
worker down before the worker begins, keeps its exit code, carries out a request to end when nobody else is there to do it,
and says that nothing is left only when that is so. It is forked from the warm process (`forkserver.py`) or is the program
`python -m steep.compute.local.keeper`, which reads its order from standard input: the two differ in how the worker begins.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType

from steep.artifacts.files import full_disk_stops
from steep.compute.local.launch import Answer, Launch, write_line
from steep.compute.local.locks import Held, take
from steep.compute.local.processes import (
    Process,
    adopt_orphans,
    belonging,
    below,
    call_oneself,
    process,
    send,
    this_process,
)
from steep.compute.local.records import AttemptRecords, Ended, Handle, Started
from steep.spec.errors import OutOfSpace, SteepError

LEFTOVER_SECONDS = 2.0
"""What a worker leaves behind is asked to end, and ended after this time."""

RIVAL_SECONDS = 5.0
"""A keeper that cannot get the attempt's lock for this long leaves it to whoever has it."""

_LOOK_SECONDS = 1.0  # a request to end is announced by a signal; should that get lost, it is seen after this time
_FULL_DISK_SECONDS = 10.0  # how long room is waited for to write down how a worker ended


def main() -> None:
    """Keep a worker that is a new program; returns at once in the process that was called."""
    launch = Launch.read(sys.stdin.buffer.readline())
    if os.fork():
        os._exit(0)
    answer = os.dup(sys.stdout.fileno())
    if keep(launch, answer):
        directory = str(Handle.parse(launch.handle).run_directory)
        os.execve(sys.executable, [sys.executable, "-P", "-m", launch.program, directory], launch.environment)


def keep(launch: Launch, answer: int) -> bool:
    """Start a worker and stay with it. Returns True in the worker's process, ready to go to work; nowhere else.

    Args:
        launch: what to start.
        answer: descriptor that the answer is written to; closed afterwards.
    """
    handle = Handle.parse(launch.handle)
    records = AttemptRecords(handle)
    failed = 1
    try:
        os.setsid()
        _connect(os.devnull, records.stream("stderr"), records.stream("stderr"))
        call_oneself("steep-keeper")
        adopt_orphans()
        wake = _listen()
        try:
            with full_disk_stops(records.directory):
                held = _claim(records, launch)
                started = _begin(records, held, (answer, wake)) if held else None
        except SteepError as error:
            _tell(answer, Answer.of_error(error))
        else:
            if held and started is None:
                return True
            _tell(answer, Answer())
            if started is not None:
                _stay(records, started, held, wake)
        failed = 0
    except Exception:  # noqa: BLE001 - nobody is above; whatever it is must be found beside the worker's own words
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(failed)


def _claim(records: AttemptRecords, launch: Launch) -> list[int]:
    """Become the only keeper of the attempt: descriptors of the locks; none where there is one or no more need of one.

    Raises:
        SteepError: a device is in use.
    """
    held = _only_one(records, launch.handle)
    if held and records.deadline() is not None:
        records.end(Ended(None, "It was cancelled before it began."))
        return []
    for path in map(Path, launch.device_locks if held else ()):
        try:
            held.append(take(path, launch.handle))
        except Held:
            raise SteepError(  # whose it is stands in the file; it may be another project's, of which this one learns nothing
                "is in use by another worker",
                where=path.stem,
                cure="Start this one when that one is gone, or on another device.",
            ) from None
    return held


def _only_one(records: AttemptRecords, word: str) -> list[int]:
    """The lock of the attempt, or nothing where another keeper has it or there was one."""
    until = time.monotonic() + RIVAL_SECONDS
    while records.started() is None and records.ended() is None and time.monotonic() < until:
        with suppress(Held):
            lock = take(records.alive, word, patience_seconds=0.05)
            if records.started() is None and records.ended() is None:
                return [lock]
            os.close(lock)
    return []


def _tell(answer: int, said: Answer) -> None:
    """Answer whoever asked for the worker, who may be gone by now."""
    with suppress(BrokenPipeError):
        write_line(answer, said.line())
    os.close(answer)


def _begin(records: AttemptRecords, held: list[int], not_its_own: tuple[int, ...]) -> Started | None:
    """Fork the worker, write it down, and let it go. Returns what was written down, and nothing in the worker.

    A keeper that dies before the record is written takes the worker with it, so that none runs that nobody knows of.
    """
    wait, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for descriptor in (go, signal.set_wakeup_fd(-1), *not_its_own):
            os.close(descriptor)
        if not os.read(wait, 1):
            os._exit(1)
        os.close(wait)
        _dress(records, held)
        return None
    os.close(wait)
    worker = process(pid)
    assert worker is not None
    started = Started(keeper=this_process(), worker=worker)
    records.start(started)
    os.write(go, b"!")
    os.close(go)
    return started


def _dress(records: AttemptRecords, held: list[int]) -> None:
    """Give the worker the streams, the directory and the signals that it would have from a shell, and the locks."""
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    _connect(os.devnull, records.stream("stdout"), records.stream("stderr"))
    os.chdir(records.handle.run_directory)
    call_oneself("steep-worker")
    for descriptor in held:
        os.set_inheritable(descriptor, True)


def _stay(records: AttemptRecords, started: Started, held: list[int], wake: int) -> None:
    """Wait for the worker, end what it leaves behind, and write down how it ended."""
    asked = False
    while (code := _reap(started.worker.pid)) is None:
        deadline = _deadline(records)
        patience = _LOOK_SECONDS
        if deadline is not None:
            if not asked:
                asked = send(started.worker, signal.SIGTERM)
            patience = deadline - time.monotonic()
            if patience <= 0:  # again and again: it may fork while it is being ended
                _send_all(_left(records, started.worker), signal.SIGKILL)
                patience = 0.2
        if select.select([wake], [], [], min(patience, _LOOK_SECONDS))[0]:
            os.read(wake, 4096)
    _clear(records, started.worker)
    for descriptor in held[1:]:
        os.close(descriptor)
    _write_end(records, code)


def _deadline(records: AttemptRecords) -> float | None:
    try:
        return records.deadline()
    except (OSError, SteepError):
        return None  # a disk that cannot be read now ends neither the worker nor its keeper; it is read again


def _clear(records: AttemptRecords, worker: Process) -> None:
    """End everything that an ended worker left behind; returns when nothing is left, and not before."""
    until = time.monotonic() + LEFTOVER_SECONDS
    asked: set[Process] = set()
    pause = 0.01
    while left := _left(records, worker):
        if time.monotonic() > until:
            _send_all(left, signal.SIGKILL)
        else:
            _send_all([one for one in left if one not in asked], signal.SIGTERM)
            asked.update(left)
        time.sleep(pause)
        pause = min(1.5 * pause, 0.25)
        _reap()


def _left(records: AttemptRecords, worker: Process) -> list[Process]:
    """What lives of the worker. On Linux this process adopts all of it; the wider search is for other systems, and for sure."""
    oneself = this_process()
    mark = str(records.handle)
    return below(oneself) or [one for one in belonging(worker, mark, records.alive) if one != oneself]


def _write_end(records: AttemptRecords, code: int) -> None:
    until = time.monotonic() + _FULL_DISK_SECONDS
    while True:
        try:
            records.end(Ended(code))
            return
        except OutOfSpace:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def _send_all(processes: list[Process], number: signal.Signals) -> None:
    for one in processes:
        send(one, number)


def _reap(pid: int = 0) -> int | None:
    """Wait for children that have ended, adopted ones too; the exit code of `pid` if it is among them."""
    code = None
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == pid:
                code = os.waitstatus_to_exitcode(ended[1])
    except ChildProcessError:
        return code
    return code


def _listen() -> int:
    """From now on a child's end and SIGTERM, the knock of `cancel`, make a descriptor readable."""
    wake, knock = os.pipe()
    os.set_blocking(knock, False)
    signal.set_wakeup_fd(knock, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, _heard)
    return wake


def _heard(number: int, frame: FrameType | None) -> None:
    """The descriptor tells; a handler is needed for it to."""


def _connect(source: str, output: Path, errors: Path) -> None:
    """Give this process standard streams."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for target, path, how in ((0, source, os.O_RDONLY), (1, output, flags), (2, errors, flags)):
        descriptor = os.open(path, how, 0o644)
        os.dup2(descriptor, target)
        os.close(descriptor)


if __name__ == "__main__":
    main()
