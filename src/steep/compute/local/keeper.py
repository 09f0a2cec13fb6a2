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
from pathlib import Path
from types import FrameType

from steep.compute.local.launch import Answer, Launch, write_line
from steep.compute.local.locks import Held, take, word_of
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

_LOOK_SECONDS = 5.0  # a request to end is announced by a signal; should that get lost, it is seen after this time
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
            held = _claim(records, launch)
            worker = None if held is None else _begin(records, held, (answer, wake))
        except SteepError as error:
            write_line(answer, Answer.of_error(error).line())
        else:
            if worker == 0:
                return True
            write_line(answer, Answer().line())
            os.close(answer)
            if worker is not None and held is not None:
                _stay(records, worker, held, wake)
        failed = 0
    except Exception:  # noqa: BLE001 - nobody is above; whatever it is must be found beside the worker's own words
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(failed)


def _claim(records: AttemptRecords, launch: Launch) -> list[int] | None:
    """Become the only keeper of the attempt: descriptors of the locks; None where there was one or is no more need.

    Raises:
        SteepError: a device is in use.
    """
    try:
        held = [take(records.alive, launch.handle)]
    except Held:
        return None
    if records.started() is not None or records.ended() is not None:
        return None
    if records.deadline() is not None:
        records.end(Ended(None, "It was cancelled before it began."))
        return None
    for path in map(Path, launch.device_locks):
        try:
            held.append(take(path, launch.handle))
        except Held:
            raise SteepError(
                f"is in use by {word_of(path).partition('@')[0] or 'another worker'}",
                where=path.stem,
                cure="Start this one when that one is gone, or on another device.",
            ) from None
    return held


def _begin(records: AttemptRecords, held: list[int], not_its_own: tuple[int, ...]) -> int:
    """Fork the worker, write it down, and let it go. Returns its process number, and 0 in the worker.

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
        return 0
    os.close(wait)
    worker = process(pid)
    assert worker is not None
    records.start(Started(keeper=this_process(), worker=worker))
    os.write(go, b"!")
    os.close(go)
    return pid


def _dress(records: AttemptRecords, held: list[int]) -> None:
    """Give the worker the streams, the directory and the signals that it would have from a shell, and the locks."""
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    _connect(os.devnull, records.stream("stdout"), records.stream("stderr"))
    os.chdir(records.handle.run_directory)
    call_oneself("steep-worker")
    for descriptor in held:
        os.set_inheritable(descriptor, True)


def _stay(records: AttemptRecords, pid: int, held: list[int], wake: int) -> None:
    """Wait for the worker, end what it leaves behind, and write down how it ended."""
    started = records.started()
    assert started is not None
    asked = False
    while (code := _reap(pid)) is None:
        deadline = records.deadline()
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
        pause = min(1.5 * pause, 1.0)
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
