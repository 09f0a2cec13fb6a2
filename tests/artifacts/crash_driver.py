"""Does one thing to a run directory again and again, and is killed at another boundary each time.

    python crash_driver.py SCENARIO PREPARED OUT

For n = 0, 1, 2...: copies PREPARED to OUT/n, forks a child that works on it and kills itself (SIGKILL) at the n-th
boundary: before or after each call that changes the file system, and in the middle of each data file. Ends after the
first n at which the child came to its end. Prints the names of the boundaries.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.lineage import branch, rollback
from steep.artifacts.rundir import RunDirectory

CALLS = ("fsync", "rename", "replace", "link", "unlink", "mkdir", "rmdir")
FIELDS = {"spec_fingerprint": "spec", "order_fingerprint": "order", "model_fingerprint": "model"}


class Boundaries:
    """Counts boundaries, and kills the process at one of them."""

    def __init__(self, fatal: int, report: Path) -> None:
        self.fatal = fatal
        self.count = 0
        self.report = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def at(self, name: str) -> None:
        os.write(self.report, f"{name}\n".encode())
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def watch(self) -> None:
        for name in CALLS:
            setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self.at(f"before {name}")
            result = call(*arguments, **options)
            self.at(f"after {name}")
            return result

        return watched


def save(catalog: CheckpointCatalog, step: int, mark: str, at: Callable[[str], None] = lambda name: None) -> None:
    """Commit a checkpoint of two files whose content says what they are."""
    staging = catalog.stage(step)
    for name in ("optimizer", "weights"):
        with open(staging / name, "wb", buffering=0) as stream:
            stream.write(f"{name} of {step} {mark} ".encode() * 500)
            at(f"in the middle of {name}")
            stream.write(b"end")
        at(f"after writing {name}")
    catalog.commit(step, tokens_seen=step * 10, cursor=step, facts={"mark": mark}, **FIELDS)


def prepare(run: RunDirectory) -> None:
    """A run with two checkpoints."""
    catalog = CheckpointCatalog(run.checkpoints)
    for step in (1, 2):
        save(catalog, step, "old")


SCENARIOS: dict[str, Callable[[RunDirectory, Callable[[str], None]], Any]] = {
    "save": lambda run, at: save(CheckpointCatalog(run.checkpoints), 3, "new", at),
    "save again": lambda run, at: save(CheckpointCatalog(run.checkpoints), 2, "new", at),
    "delete": lambda run, at: CheckpointCatalog(run.checkpoints).delete(2),
    "metrics": lambda run, at: CheckpointCatalog(run.checkpoints).record_metrics(2, {"bpb": 1.0}),
    "rollback": lambda run, at: rollback(run, 1),
    "branch": lambda run, at: branch(run, 2, run.path.parent / f"branch of {run.path.name}", run.spec()),
}


def main(scenario: str, prepared: Path, out: Path) -> None:
    """See above."""
    for number in range(1000):
        place = out / str(number)
        shutil.copytree(prepared, place)
        report = out / "boundaries"
        if (child := os.fork()) == 0:
            boundaries = Boundaries(number, report)
            boundaries.watch()
            SCENARIOS[scenario](RunDirectory(place), boundaries.at)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            if os.waitstatus_to_exitcode(status):
                sys.exit(f"the child failed at boundary {number}")
            return
    sys.exit("the child never came to its end")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
