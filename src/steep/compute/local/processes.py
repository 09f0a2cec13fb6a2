"""Processes as the system knows them: which one is meant, whether it lives, and what still belongs to a worker.

A process number alone says little: numbers are used again, and mean something else after a restart of the machine or in
another container. So a process is its number and the moment at which it began, and a record of it says where the number
holds good. On Linux signals go through a pidfd, which cannot hit a stranger; elsewhere the moment is compared first.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

MARK = "STEEP_WORKER"
"""Environment variable that every program of a worker inherits; its value is the worker's handle."""

_ON_LINUX = sys.platform.startswith("linux")
_DEAD = "ZX"  # states of /proc/PID/stat: ended, but its parent has not asked yet how


@dataclass(frozen=True, slots=True)
class Process:
    """One process, and no other that gets its number later.

    Args:
        pid: its number.
        started: when it began: clock ticks since the machine did (Linux), else microseconds since the epoch. Neither
            moves when somebody sets the clock.
    """

    pid: int
    started: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process number holds good.

    Args:
        machine: the host's name.
        boot: changes when the machine starts again.
        numbers: the namespace that numbers are counted in; a container has its own.
    """

    machine: str
    boot: str
    numbers: str


@dataclass(frozen=True, slots=True)
class _Facts:
    state: str
    group: int
    session: int
    started: int


@cache
def here() -> Place:
    """Where this process runs."""
    if not _ON_LINUX:
        return Place(os.uname().nodename, _boot_session(), "")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Place(os.uname().nodename, boot, str(Path("/proc/self/ns/pid").readlink()))


def process(pid: int) -> Process | None:
    """The process that has this number now, if there is one that has not ended."""
    facts = _facts(pid)
    return None if facts is None or facts.state in _DEAD else Process(pid, facts.started)


def this_process() -> Process:
    """The calling one."""
    found = process(os.getpid())
    assert found is not None
    return found


def is_alive(one: Process) -> bool:
    """Whether it still runs. One that ended and was not yet waited for does not."""
    return process(one.pid) == one


def send(one: Process, number: signal.Signals) -> bool:
    """Send a signal to this process and no other; returns whether it was there."""
    if hasattr(os, "pidfd_open"):
        try:
            descriptor = os.pidfd_open(one.pid)
        except ProcessLookupError:
            return False
        except OSError:
            return _send_by_number(one, number)  # an old kernel, or one that forbids it
        try:
            if not is_alive(one):
                return False
            signal.pidfd_send_signal(descriptor, number)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
    return _send_by_number(one, number)


def belonging(leader: Process | None, mark: str, held: Path | None) -> list[Process]:
    """What lives of a worker: its session and group, all that carry its mark, and all that hold its file open.

    Between them these find a child that began a session of its own: a program inherits the mark, a plain fork the file.

    Args:
        leader: the worker, which leads its session and its group.
        mark: the value of its mark.
        held: the file that a worker and its forks hold open; None does not look for it, which is quicker.
    """
    found = {}
    for pid in psutil.pids():
        facts = _facts(pid)
        if facts is None or facts.state in _DEAD:
            continue
        if _is_led(pid, facts, leader) or has_mark(pid, mark) or (held and _holds(pid, held)):
            found[pid] = Process(pid, facts.started)
    return list(found.values())


def below(one: Process) -> list[Process]:
    """Its children, and theirs."""
    try:
        children = psutil.Process(one.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [found for child in children if (found := process(child.pid)) is not None]


def has_mark(pid: int, mark: str) -> bool:
    """Whether a process runs a program that a worker with this mark started. Those of other users are not."""
    try:
        return psutil.Process(pid).environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False


def session_of(pid: int) -> int | None:
    """Number of the session that a process is in."""
    facts = _facts(pid)
    return None if facts is None else facts.session


def call_oneself(name: str) -> None:
    """What `ps` and `top` show of this process, where that can be set; at most 15 letters."""
    if _ON_LINUX:
        with suppress(OSError):
            Path("/proc/self/comm").write_text(name)


def adopt_orphans() -> None:
    """From now on children of ended children become this process's own (Linux), so that none of them gets out of sight."""
    if _ON_LINUX:
        import ctypes

        set_child_subreaper = 36  # linux/prctl.h
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def _is_led(pid: int, facts: _Facts, leader: Process | None) -> bool:
    if leader is None or facts.started < leader.started:
        return False
    if pid == leader.pid:
        return facts.started == leader.started
    if leader.pid not in (facts.session, facts.group):
        return False
    now = _facts(leader.pid)  # a session outlives its leader, but then nobody else can have got the number
    return now is None or now.started == leader.started


def _holds(pid: int, path: Path) -> bool:
    try:
        if not _ON_LINUX:
            return any(opened.path == str(path) for opened in psutil.Process(pid).open_files())
        names = (str(path), f"{path} (deleted)")
        return any(_target(link) in names for link in Path(f"/proc/{pid}/fd").iterdir())
    except (psutil.Error, OSError):
        return False  # it ended, or is another user's


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:
        return ""  # closed meanwhile


def _send_by_number(one: Process, number: signal.Signals) -> bool:
    if not is_alive(one):
        return False
    try:
        os.kill(one.pid, number)
    except ProcessLookupError:
        return False
    return True


def _facts(pid: int) -> _Facts | None:
    if not _ON_LINUX:
        return _facts_by_psutil(pid)
    try:
        line = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = line.rpartition(")")[2].split()  # the name before it may hold anything; see proc(5) for the rest
    return _Facts(state=fields[0], group=int(fields[2]), session=int(fields[3]), started=int(fields[19]))


def _facts_by_psutil(pid: int) -> _Facts | None:
    try:
        one = psutil.Process(pid)
        state = "Z" if one.status() == psutil.STATUS_ZOMBIE else "R"
        return _Facts(state, os.getpgid(pid), os.getsid(pid), round(one.create_time() * 1e6))
    except (psutil.NoSuchProcess, ProcessLookupError):
        return None
    except (psutil.AccessDenied, PermissionError):
        return _Facts("R", -1, -1, -1)  # another user's, so none of ours


def _boot_session() -> str:
    import subprocess

    asked = subprocess.run(["sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or str(round(psutil.boot_time()))
