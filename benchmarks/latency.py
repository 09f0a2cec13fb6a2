"""From `submit` to the worker's process and to its first training step, with a warm start and without.

A job as small as jobs are: the packaged tiny base (5.3M parameters), some pages of text, steps of a thousand tokens. All
of its way is in it: text is prepared, the base is scored, training begins. Nothing else should run meanwhile; the load of
the machine is printed, as the numbers mean little without it.

    python benchmarks/latency.py [--repeats N] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import steep
from steep.artifacts.rundir import RunDirectory
from steep.compute.contract import Order
from steep.compute.local.backend import LocalBackend
from steep.spec.job import JobSpec

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 300.0
WAYS = ("warm", "cold")
MILESTONES = ("submit returns", "worker speaks", "text prepared", "base scored", "first step")


def main() -> int:
    """Measure in turns, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each way")
    parser.add_argument("--json", type=Path, help="write every measurement there")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder, LocalBackend(Path(folder)) as warm:
        began = time.monotonic()
        wait(warm.is_warm, "the warm process")
        print(f"warm after {time.monotonic() - began:.1f} s; {setting()}", flush=True)
        cold = LocalBackend(Path(folder), warm=False)
        for repeat in range(options.repeats):
            for way, backend in zip(WAYS, (warm, cold), strict=True):
                found[way].append(measure(backend, Path(folder) / f"{way}-{repeat}"))
                print(f"    {way} {repeat + 1}: {line(found[way][-1])}; load {os.getloadavg()[0]:.1f}", flush=True)
    for way in WAYS:
        print(
            f"{way}, median: {line({name: statistics.median(one[name] for one in found[way]) for name in MILESTONES})}"
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


def measure(backend: LocalBackend, place: Path) -> dict[str, float]:
    """Seconds from the call of `submit` to each milestone of a new job."""
    run = RunDirectory(place)
    run.path.mkdir()
    run.write_spec(job())
    (device, *_) = backend.capacity().devices
    submitted = time.time()
    handle = backend.submit(Order(place.name, 1, run.path, (device.device.id,)))
    returned = time.time()
    wait(lambda: milestone(run, "step") is not None or backend.status(handle).is_over, "the first step")
    backend.cancel(handle, grace_seconds=0)
    wait(lambda: backend.status(handle).is_over, "the end")
    moments = {
        "submit returns": returned,
        "worker speaks": milestone(run, "stage"),
        "text prepared": milestone(run, "stage", stage="prepare", event="completed"),
        "base scored": milestone(run, "stage", stage="assess", event="completed"),
        "first step": milestone(run, "step"),
    }
    if None in moments.values():
        raise SystemExit(backend.logs(handle, "stderr", 0).decode())
    return {name: moment - submitted for name, moment in moments.items() if moment is not None}


def job() -> JobSpec:
    """A tiny one."""
    return JobSpec.model_validate(
        {
            "name": "latency",
            "base": str(Path(steep.__file__).parent / "data" / "tiny-base"),
            "corpus": {"sources": [str(ROOT / "docs" / "how-to")], "holdout": "10%"},
            "replay": "none",
            "training": {"budget": "100 steps", "sequence_tokens": 256, "global_batch_tokens": 1024},
            "evaluation": {"max_tokens": 1000, "interpolate": []},
        }
    )


def milestone(run: RunDirectory, kind: str, **values: str) -> float | None:
    """When the first report of a kind, with these values, was written; seconds since the epoch."""
    if not run.reports_file.exists():
        return None
    for text in run.reports_file.read_bytes().rpartition(b"\n")[0].splitlines():
        report = json.loads(text)
        if report["kind"] == kind and all(report.get(name) == value for name, value in values.items()):
            return float(report["time"])
    return None


def wait(condition: Callable[[], bool], what: str) -> None:
    """Until a condition holds."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.01)


def line(seconds: dict[str, float]) -> str:
    """One line of numbers."""
    return ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())


def setting() -> str:
    """What the numbers depend on beside the code."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return f"{os.cpu_count()} cores, OMP_NUM_THREADS {threads}, load {os.getloadavg()[0]:.1f} in the last minute"


if __name__ == "__main__":
    sys.exit(main())
