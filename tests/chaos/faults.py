"""What can be done to a service. Each fault hits something that is there at the moment, and says how it is mended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.lines import Trouble
from tests.chaos.plan import Blow
from tests.chaos.world import PATIENCE, Replica, World, wait_until

from steep.compute.local.processes import Process, send
from steep.compute.local.records import AttemptRecords, Handle

PREY_SECONDS = 15.0
"""How long a worker is waited for that can be hit."""

DEATH_SECONDS = 20.0
"""How long a server may take until it comes to the transition that it is to die at."""

FURTHEST_JUMP_SECONDS = 7200.0


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that hit: what undoes it, and when."""

    mend: Callable[[], object] = lambda: None
    after_seconds: float = 0.0


Strike = Callable[[World, Blow], Struck | None]
"""Returns None where there was nothing to be hit."""


def kill_server(world: World, blow: Blow) -> Struck:
    _replica(world, blow).kill(3 * blow.lasts_seconds)
    return Struck()


def crash_server(world: World, blow: Blow) -> Struck | None:
    """It dies right before or right after the commit of a transition; what leads to that one is done first."""
    if blow.transition == "Attempts.revoke":
        _stop_for(world, blow, 0.0)  # it is fenced in time, and then ended by whoever is left
    if blow.transition == "Tokens.renew" and not _die_at(world, "Attempts.begin", "after"):
        return None
    return Struck() if _die_at(world, blow.transition, "after" if blow.is_late else "before") else None


def kill_worker(world: World, blow: Blow) -> Struck | None:
    prey = _worker(world, blow)
    return Struck() if prey is not None and send(prey[2], signal.SIGKILL) else None


def kill_keeper(world: World, blow: Blow) -> Struck | None:
    prey = _worker(world, blow)
    if prey is None:
        return None
    job, attempt, _ = prey
    started = AttemptRecords(Handle(job, attempt, world.data / "runs" / job)).started()
    return Struck() if started is not None and send(started.keeper, signal.SIGKILL) else None


def stop_worker(world: World, blow: Blow) -> Struck | None:
    """SIGSTOP, and SIGCONT some time after its lease has ended: before or after it was fenced."""
    return _stop_for(world, blow, PATIENCE.lease + 1 + blow.lasts_seconds * (PATIENCE.unreachable + 3))


def database_gone(world: World, blow: Blow) -> Struck | None:
    seconds = 1 + 4 * blow.lasts_seconds
    if world.postgresql is not None:
        world.postgresql.end()
        return Struck(world.postgresql.start, seconds)
    other = sqlite3.connect(
        world.database.removeprefix("sqlite:///"), timeout=10, isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN EXCLUSIVE")
    return Struck(other.close, seconds)


def store_gone(world: World, blow: Blow) -> Struck:
    seconds = 2 + 6 * blow.lasts_seconds
    if world.bucket_line is not None:
        world.bucket_line.cut()
        return Struck(world.bucket_line.mend, seconds)
    place = Path(world.bucket)
    aside = place.rename(place.with_name("aside"))
    place.touch()  # nothing can be written below a file

    def mend() -> None:
        place.unlink()
        aside.rename(place)

    return Struck(mend, seconds)


def full_disk(world: World, blow: Blow) -> Struck:
    filler = world.data.parent / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as stream:
        room = os.statvfs(filler)
        os.posix_fallocate(stream.fileno(), 0, room.f_bavail * room.f_frsize)
        while True:
            stream.write(b"x" * 4096)
    return Struck(filler.unlink, 1 + 4 * blow.lasts_seconds)


def clock_jump(world: World, blow: Blow) -> Struck:
    """The clock of one server, forwards or backwards by up to two hours, and back after a while."""
    clock = _replica(world, blow).clock
    clock.write_text(str((2 * blow.lasts_seconds - 1) * FURTHEST_JUMP_SECONDS))
    return Struck(lambda: clock.unlink(missing_ok=True), 1 + 4 * blow.pick)


def line_trouble(trouble: Trouble) -> Strike:
    """Requests of workers and users, and the answers to them, are lost, come twice, or take long."""

    def strike(world: World, blow: Blow) -> Struck:
        world.line.trouble = trouble
        return Struck(lambda: setattr(world.line, "trouble", "none"), 2 + 5 * blow.lasts_seconds)

    return strike


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault.

    Args:
        strike: does it.
        meaning: what is done, for people.
        thing: what it troubles, where a second fault of that must wait until the first is mended.
    """

    strike: Strike
    meaning: str
    thing: str = ""


FAULTS: dict[str, Fault] = {
    "kill server": Fault(kill_server, "SIGKILL to a server, which is started again after up to 3 s"),
    "crash": Fault(crash_server, "a server dies right before or right after the commit of a transition"),
    "kill worker": Fault(kill_worker, "SIGKILL to a worker"),
    "kill keeper": Fault(kill_keeper, "SIGKILL to the process that keeps a worker"),
    "stop worker": Fault(stop_worker, "SIGSTOP to a worker, and SIGCONT after its lease has ended"),
    "database gone": Fault(database_gone, "PostgreSQL is killed and started again; SQLite is locked", "database"),
    "store gone": Fault(store_gone, "the line to S3 is cut; the directory is away", "store"),
    "full disk": Fault(full_disk, "no byte is left where runs, and SQLite, lie", "disk"),
    "requests lost": Fault(line_trouble("cut"), "60 % of requests never arrive", "line"),
    "answers lost": Fault(line_trouble("deaf"), "60 % of answers never arrive", "line"),
    "requests twice": Fault(line_trouble("twice"), "60 % of requests arrive twice", "line"),
    "slow network": Fault(line_trouble("slow"), "60 % of requests take up to 1.5 s longer", "line"),
    "clock jump": Fault(clock_jump, "the clock of a server is up to two hours off for a while", "clock"),
}


def kinds_for(world: World) -> list[str]:
    """Those that are possible here."""
    return [kind for kind in FAULTS if kind != "full disk" or world.has_small_disk]


def _die_at(world: World, transition: str, moment: str) -> bool:
    world.death.write_text(json.dumps({"transition": transition, "moment": moment}))
    if wait_until(lambda: not world.death.exists(), DEATH_SECONDS):
        return True
    world.death.unlink(missing_ok=True)
    return False


def _replica(world: World, blow: Blow) -> Replica:
    return world.replicas[int(blow.pick * len(world.replicas))]


def _worker(world: World, blow: Blow) -> tuple[str, int, Process] | None:
    found: list[Any] = []
    wait_until(lambda: found.extend(world.living()) or found, PREY_SECONDS)
    return found[int(blow.pick * len(found))] if found else None


def _stop_for(world: World, blow: Blow, seconds: float) -> Struck | None:
    prey = _worker(world, blow)
    if prey is None or not send(prey[2], signal.SIGSTOP):
        return None
    return Struck(lambda: send(prey[2], signal.SIGCONT), seconds)
