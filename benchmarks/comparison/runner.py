"""Measurements in turns: A B A B, each in a process of its own that answers with one line of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from comparison.material import PLACE
from comparison.peers import BENCHMARKS, PYTHON
from comparison.rows import Measurement, Row, Side

_SHOWN_LINES = 30


class MeasurementFailed(Exception):
    """A measuring process ended with an error, which the message holds."""


def measure(row: Row, side: Side, repeat: int, *, threads: int, peers: Path = PYTHON) -> Measurement:
    """Measure one side once; `peers` is the interpreter of the peers.

    Raises:
        MeasurementFailed: its process failed.
    """
    (PLACE / "scratch").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PLACE / "scratch") as scratch:
        told = json.dumps({**side.arguments(), "scratch": scratch})
        interpreter = peers if side.peer else Path(sys.executable)
        done = subprocess.run(
            [str(interpreter), "-m", f"comparison.sides.{side.script}", told],
            cwd=BENCHMARKS,
            env=_environment(threads, scratch),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        end = "\n".join(done.stderr.splitlines()[-_SHOWN_LINES:])
        raise MeasurementFailed(f"{row.name}, {side.name}: exit code {done.returncode}\n{end}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return Measurement(row.name, side.name, repeat, **answer)


def in_turns(
    row: Row, repeats: int, *, threads: int, tell: Callable[[Measurement], None], peers: Path = PYTHON
) -> Iterator[Measurement]:
    """All sides, one after another, as often as asked for; `tell` hears of each."""
    for repeat in range(row.repeats or repeats):
        for side in row.sides:
            found = measure(row, side, repeat, threads=threads, peers=peers)
            tell(found)
            yield found


def save(path: Path, measurements: list[Measurement]) -> None:
    """Write measurements as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(one) for one in measurements], indent=1) + "\n")


def load(path: Path) -> list[Measurement]:
    """Measurements of an earlier call; none where there was none."""
    return [Measurement(**one) for one in json.loads(path.read_text())] if path.exists() else []


def _environment(threads: int, scratch: str) -> dict[str, str]:
    settings = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",  # each worker process is one core's work
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": f"{scratch}/hf",
        "TRANSFORMERS_VERBOSITY": "error",
        "MEASURING_SINCE": repr(time.time()),
    }
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **settings}
