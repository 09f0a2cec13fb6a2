"""What is written down of an attempt, in its run directory: the truth about a worker that outlives every server.

RUN/
  worker.out, worker.err     what workers wrote, all attempts of the run one after another
  attempts/<number>/
    order.json               what was asked for, once, by whoever was first
    started.json             the keeper and the worker; written before the worker begins
    cancel.json              it is to end, and by when
    exit.json                nothing of it is left, and how the worker ended
    alive                    locked by the keeper, the worker and whatever they fork, for as long as any of them lives

A record appears whole, and is written once; only the time to end may be brought forward.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from steep.artifacts.files import full_disk_stops, make_directory, sync_directory, write_atomic
from steep.compute.contract import Stream
from steep.compute.local.processes import Place, Process
from steep.spec.errors import DamagedArtifact, InvalidInput

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Handle:
    """Names a worker: its job, the number of its attempt, and where its records lie."""

    job_id: str
    attempt: int
    run_directory: Path

    def __str__(self) -> str:
        return f"{self.job_id}/{self.attempt}@{self.run_directory}"

    @classmethod
    def parse(cls, text: str) -> Handle:
        """The handle that prints as `text`.

        Raises:
            ValueError: there is none.
        """
        name, _, directory = text.partition("@")
        job_id, _, attempt = name.rpartition("/")
        if not job_id or not directory:
            raise ValueError(f"{text!r} names no worker")
        return cls(job_id, int(attempt), Path(directory))


@dataclass(frozen=True, slots=True)
class Ordered:
    """What was asked for.

    Args:
        job_id: of the job.
        devices: ids of the devices.
        place: where process numbers of this attempt hold good.
        at_seconds: when, by the machine's own clock, which starts with it and is never set.
    """

    job_id: str
    devices: tuple[str, ...]
    place: Place
    at_seconds: float


@dataclass(frozen=True, slots=True)
class Started:
    """The processes of an attempt."""

    keeper: Process
    worker: Process


@dataclass(frozen=True, slots=True)
class Ended:
    """How the worker ended. No code: it never began."""

    exit_code: int | None
    detail: str = ""


class AttemptRecords:
    """The records of one attempt. Cheap to make; touches the disk only when asked to."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.directory = handle.run_directory / "attempts" / str(handle.attempt)
        self.alive = self.directory / "alive"

    def stream(self, stream: Stream) -> Path:
        """The file that a stream of the worker goes to."""
        return self.handle.run_directory / ("worker.out" if stream == "stdout" else "worker.err")

    def claim(self, order: Ordered) -> None:
        """Write down what is asked for, unless somebody has.

        Raises:
            InvalidInput: the attempt is another job's, or there is no such run directory.
            OutOfSpace: the disk is full.
        """
        directory = self.handle.run_directory
        if not directory.is_dir():
            raise InvalidInput("there is no such run directory", where=str(directory), cure="Make it first.")
        make_directory(self.directory)
        if not _write_once(self.directory / "order.json", asdict(order)):
            before = self.ordered()
            if before is not None and before.job_id != order.job_id:
                raise InvalidInput(
                    f"the run directory is that of job {before.job_id}",
                    where=str(directory),
                    cure="Give each job a run directory of its own.",
                )

    def ordered(self) -> Ordered | None:
        """What was asked for, if anything."""
        return _read(
            self.directory / "order.json",
            lambda values: Ordered(
                job_id=values["job_id"],
                devices=tuple(values["devices"]),
                place=Place(**values["place"]),
                at_seconds=values["at_seconds"],
            ),
        )

    def has_begun(self) -> bool:
        """Whether it has had a keeper, or never will: a record says so, even one that cannot be read."""
        return any((self.directory / name).exists() for name in ("started.json", "exit.json"))

    def start(self, started: Started) -> None:
        """Write down the processes."""
        write_atomic(self.directory / "started.json", json.dumps(asdict(started)))

    def started(self) -> Started | None:
        """The processes, if it has begun."""
        return _read(
            self.directory / "started.json",
            lambda values: Started(keeper=Process(**values["keeper"]), worker=Process(**values["worker"])),
        )

    def cancel(self, deadline_seconds: float) -> None:
        """Write down that it is to end, by a time of the machine's own clock; an earlier one holds."""
        before = self.deadline()
        if before is None or deadline_seconds < before:
            write_atomic(self.directory / "cancel.json", json.dumps({"deadline_seconds": deadline_seconds}))

    def deadline(self) -> float | None:
        """By when it is to have ended, if it is to."""
        return _read(self.directory / "cancel.json", lambda values: float(values["deadline_seconds"]))

    def end(self, ended: Ended) -> None:
        """Write down that nothing of it is left. The first word stands. A run that was deleted meanwhile stays so."""
        if self.directory.is_dir():
            _write_once(self.directory / "exit.json", asdict(ended))

    def ended(self) -> Ended | None:
        """How it ended, if nothing of it is left."""
        return _read(self.directory / "exit.json", lambda values: Ended(**values))


def _write_once(path: Path, values: dict[str, Any]) -> bool:
    """Write a record unless it is there; of several that try at once, one does. Returns whether this one did."""
    if path.exists():
        return False
    staging = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    with full_disk_stops(path):
        try:
            with open(staging, "w", encoding="utf-8") as stream:
                json.dump(values, stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.link(staging, path)
            sync_directory(path.parent)
        except FileExistsError:
            return False
        finally:
            staging.unlink(missing_ok=True)
    return True


def _read(path: Path, convert: Callable[[dict[str, Any]], Record]) -> Record | None:
    try:
        return convert(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedArtifact("the record is damaged", where=str(path)) from error
