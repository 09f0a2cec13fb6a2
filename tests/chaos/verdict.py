"""What must hold after everything: of jobs, of attempts, of reports, of checkpoints here and in the store, of weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from tests.chaos.worker import entries
from tests.chaos.world import World
from tests.contract.makers import check_whole

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.manifest import MANIFEST
from steep.artifacts.mirror import RemoteCheckpoints
from steep.artifacts.rundir import RunDirectory
from steep.artifacts.store import open_store
from steep.server.store.tables import job_progress
from steep.spec.errors import SteepError
from steep.spec.events import EventKind
from steep.spec.states import State

ENDS = {EventKind.SUCCEEDED, EventKind.FAILED, EventKind.CANCELLED}
MOVES = {EventKind.PROVISIONED, EventKind.STARTED, EventKind.RETRIED, EventKind.PREEMPTED, EventKind.UNREACHABLE, *ENDS}
WEIGHTS = "*.safetensors"


@dataclass
class Findings:
    """What does not hold, as sentences; and how much was looked at."""

    wrong: list[str] = field(default_factory=list)
    checkpoints: int = 0
    copies: int = 0


def examine(world: World, submitted: Sequence[str], weights: dict[str, bytes]) -> Findings:
    """Look at everything.

    Args:
        world: whose jobs have all ended.
        submitted: the jobs that users were told of.
        weights: of the undisturbed run, by file.
    """
    found = Findings()
    if left := world.living():
        found.wrong.append(f"workers are alive that should not be: {left}")
    found.wrong += [
        f"attempt {one.attempt} of {one.job} began while {one.beside} was alive"
        for one in entries(world.journal)
        if one.beside
    ]
    try:
        check_whole(world.store)
    except AssertionError as error:
        found.wrong.append(f"the store is not whole: {error}")
    for job in submitted:
        for look in (
            _ended_well,
            _stayed_ended,
            _lost_no_report,
            _lost_no_step,
            _keeps_whole_checkpoints,
            _copied_whole,
        ):
            try:
                found.wrong += [f"{job}: {what}" for what in look(world, job, found)]
            except SteepError as error:
                found.wrong.append(f"{job}: {look.__name__}: {error}")
        if world.store.jobs.get(job, time.time()).standing.state is State.SUCCEEDED:
            found.wrong += _has_weights(world.data / "runs" / job, weights)
    return found


def weights_of(run: Path) -> dict[str, bytes]:
    """The last checkpoint's and the export's, by file."""
    newest = max((run / "checkpoints").glob(f"step-*/{MANIFEST}")).parent
    files = [*newest.glob(WEIGHTS), *(run / "export").glob(WEIGHTS)]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def _has_weights(run: Path, weights: dict[str, bytes]) -> list[str]:
    mine = weights_of(run)
    if mine.keys() != weights.keys():
        return [f"{run.name} has {sorted(mine)} and not {sorted(weights)}"]
    return [f"{run.name}: {name} differs from the undisturbed run's" for name in mine if mine[name] != weights[name]]


def _ended_well(world: World, job: str, found: Findings) -> list[str]:
    standing = world.store.jobs.get(job, time.time()).standing
    if standing.state is State.SUCCEEDED:
        return []
    asked = any(event.data.get("reason") == "cancel_requested" for event in _events(world, job))
    if standing.state is State.CANCELLED and (asked or "cancelled by" in standing.detail):
        return []
    return [f"is {standing.state} ({standing.reason}: {standing.detail})"]


def _stayed_ended(world: World, job: str, found: Findings) -> list[str]:
    moves = [event.kind for event in _events(world, job) if event.kind in MOVES]
    ends = [place for place, kind in enumerate(moves) if kind in ENDS]
    return [] if ends in ([], [len(moves) - 1]) else [f"went on after its end: {', '.join(moves)}"]


def _lost_no_report(world: World, job: str, found: Findings) -> list[str]:
    """The run directory numbers them one by one, and the server has them all, unless the job was cancelled before its end."""
    numbers = [report["sequence"] for report in _reports(world, job)]
    if numbers != list(range(len(numbers))):
        gap = next(place for place, number in enumerate(numbers) if place != number)
        return [f"report {gap} has number {numbers[gap]}"]
    with world.store.database.read() as connection:
        query = select(job_progress.c.next_report).where(job_progress.c.job_id == job)
        known = connection.execute(query).scalar_one()
    ended = world.store.jobs.get(job, time.time()).standing.state
    if ended is State.SUCCEEDED and known != len(numbers):
        return [f"the server has {known} of {len(numbers)} reports"]
    return []


def _lost_no_step(world: World, job: str, found: Findings) -> list[str]:
    """Training never goes on from before a checkpoint that was told to be saved."""
    newest = 0
    for report in _reports(world, job):
        if report["kind"] == "checkpoint" and report["event"] == "saved":
            newest = max(newest, report["step"])
        elif report["kind"] == "step" and report["step"] <= newest:
            return [f"step {report['step']} was done again after checkpoint {newest} was saved"]
    return []


def _keeps_whole_checkpoints(world: World, job: str, found: Findings) -> list[str]:
    """Every checkpoint that is there is whole, and the catalog of the server names these and no others."""
    catalog = RunDirectory(world.data / "runs" / job).catalog()
    wrong = _damaged(catalog.steps(), catalog.verify)
    found.checkpoints += len(catalog.steps())
    named = [one.step for one in world.store.checkpoints.list(job).items]
    ended = world.store.jobs.get(job, time.time()).standing.state
    if ended is State.SUCCEEDED and sorted(named) != catalog.steps():
        wrong.append(f"the catalog names checkpoints {sorted(named)}, and there are {catalog.steps()}")
    return wrong


def _copied_whole(world: World, job: str, found: Findings) -> list[str]:
    """Every checkpoint that the store has is whole: it is fetched, which compares every byte."""
    name = world.store.jobs.get(job, time.time()).name
    remote = RemoteCheckpoints(open_store(world.bucket), name, "")
    place = CheckpointCatalog(world.directory / "fetched" / job)
    wrong = _damaged(remote.steps(), lambda step: remote.fetch(place, step))
    found.copies += len(remote.steps())
    return [f"copy: {what}" for what in wrong]


def _damaged(steps: Sequence[int], read: Callable[[int], Any]) -> list[str]:
    wrong = []
    for step in steps:
        try:
            read(step)
        except SteepError as error:
            wrong.append(f"checkpoint {step} is not whole: {error}")
    return wrong


def _events(world: World, job: str) -> list[Any]:
    found, last = [], 0
    while more := world.store.events.after(last, job_id=job):
        found += more
        last = more[-1].id
    return found


def _reports(world: World, job: str) -> list[dict[str, Any]]:
    path = world.data / "runs" / job / "reports.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
