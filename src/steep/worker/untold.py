"""What a worker that was killed could not tell any more of its checkpoints, told by the next one.

A checkpoint is committed a moment before that is reported, and deleted a moment before too. Whoever is killed in between leaves
a catalog on the disk that differs from what a service knows. What a rollback set aside is told here too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from steep.artifacts.abandoned import steps_set_aside
from steep.artifacts.lineage import Lineage
from steep.artifacts.rundir import RunDirectory
from steep.spec.reports import CheckpointReport

if TYPE_CHECKING:
    from steep.train.observer import Observer


def tell_untold(run: RunDirectory, observer: Observer) -> None:
    """Report checkpoints that are there and were not told of, and those that were told of and are there no more."""
    told = _told(run.reports_file)
    catalog = run.catalog()
    there = set(catalog.steps())
    for one in catalog.list():
        if one.step not in told:
            observer.checkpoint(
                CheckpointReport(
                    step=one.step,
                    event="saved",
                    size_bytes=one.size_bytes,
                    tokens_seen=one.tokens_seen,
                    detail="by an earlier process",
                )
            )
    set_aside_at, aside = Lineage.read(run).set_aside_at(), steps_set_aside(run.checkpoints)
    for step in sorted(set(told) - there):
        if step in aside and set_aside_at.get(step, 0.0) >= told[step]:
            observer.checkpoint(CheckpointReport(step=step, event="set_aside"))
        else:
            observer.checkpoint(CheckpointReport(step=step, event="deleted", detail="by an earlier process"))


def _told(reports: Path) -> dict[int, float]:
    """Steps of checkpoints that are there according to the reports, and when they were told of."""
    steps: dict[int, float] = {}
    if not reports.exists():
        return steps
    with open(reports, "rb") as lines:
        for line in lines:
            if b'"checkpoint"' not in line or not line.endswith(b"\n"):
                continue
            report = json.loads(line)
            if report["kind"] == "checkpoint" and report["event"] == "saved":
                steps[report["step"]] = report["time"]
            elif report["kind"] == "checkpoint" and report["event"] in ("deleted", "set_aside"):
                steps.pop(report["step"], None)
    return steps
