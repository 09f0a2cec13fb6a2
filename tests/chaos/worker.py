"""A worker that first writes itself down in a journal, and looks whether an earlier one of its job is still alive.

What runs twice at once is seen where it happens, and not by somebody who looks now and then. The journal is one for all jobs;
a lock makes the look and the entry one deed.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from steep.compute.local.processes import Process, is_alive, this_process

JOURNAL = "CHAOS_JOURNAL"


@dataclass(frozen=True, slots=True)
class Entry:
    """A worker that began: of which attempt, as which process, and which earlier workers of the job were alive then."""

    job: str
    attempt: int
    process: Process
    beside: tuple[int, ...]


def entries(journal: Path) -> list[Entry]:
    """All that began, the first one first."""
    return _read(journal.read_text()) if journal.exists() else []


def enter(journal: Path, job: str, attempt: int) -> None:
    """Write the calling process down."""
    with open(journal, "a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        beside = [one for one in _read(stream.read()) if one.job == job and is_alive(one.process)]
        _append(stream, Entry(job, attempt, this_process(), tuple(one.attempt for one in beside)))


def _append(stream: IO[str], entry: Entry) -> None:
    stream.write(json.dumps(asdict(entry)) + "\n")
    stream.flush()


def _read(text: str) -> list[Entry]:
    lines = map(json.loads, text.splitlines())
    return [Entry(one["job"], one["attempt"], Process(**one["process"]), tuple(one["beside"])) for one in lines]


def main() -> int:
    """Enter, and be the product's worker."""
    from steep.worker.__main__ import main as work

    job, _, attempt = os.environ["STEEP_ATTEMPT"].rpartition("/")
    enter(Path(os.environ[JOURNAL]), job, int(attempt))
    return work()


if __name__ == "__main__":
    sys.exit(main())
