"""`steep watch`, `steep status`, `steep plot`: look at a run or a job, at work or finished."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from steep.spec.errors import EXIT_LEFT

if TYPE_CHECKING:
    from steep.artifacts.rundir import RunDirectory
    from steep.cli.view import View

RunArgument = typer.Argument(metavar="RUN", help="A run directory.")
RunOrJob = typer.Argument(metavar="RUN", help="A run directory, or the id of a job of the service.")


def watch(where: str = RunOrJob) -> None:
    """Watch a run or a job at work, or see how a finished one went. Ctrl-C leaves it at work."""
    from rich.console import Console

    from steep.artifacts.rundir import RunDirectory
    from steep.cli.follow import follow
    from steep.cli.service.connect import job_meant
    from steep.cli.service.following import watch as watch_job
    from steep.cli.summary import show

    if (job := job_meant(where)) is not None:
        watch_job(job, json=False)
        return
    run = RunDirectory.existing(where)
    console = Console()
    try:
        error = follow(run, console, history=True)
    except KeyboardInterrupt:
        console.print(f"Left; the run goes on. `steep watch {where}` shows it again.", soft_wrap=True)
        raise typer.Exit(EXIT_LEFT) from None
    if error is not None:
        raise error
    show(run, console)


def status(
    where: str | None = typer.Argument(
        None, metavar="[RUN]", help="A run directory, or the id of a job; the service by default."
    ),
    json: bool = typer.Option(False, "--json", help="Print it as JSON."),
) -> None:
    """Where a run or a job stands: its stages, its last step, its checkpoints, what it warned of. Or how the service is."""
    from steep.artifacts.rundir import RunDirectory
    from steep.cli.output import print_json
    from steep.cli.service.connect import job_meant
    from steep.cli.service.looking import show as show_job
    from steep.cli.service.status import show_service

    if where is None:
        show_service(json=json)
        return
    if (job := job_meant(where)) is not None:
        show_job(job, json=json)
        return
    run = RunDirectory.existing(where)
    view = _view(run)
    facts = _facts(run, view)
    if json:
        print_json(facts)
        return
    _print_status(facts, view)


def _view(run: RunDirectory) -> View:
    from steep.cli.tail import Tail
    from steep.cli.view import View

    view = View()
    for report in Tail(run.reports_file).read():
        view.add(report)
    return view


def _facts(run: RunDirectory, view: View) -> dict[str, Any]:
    from steep.artifacts.checkpoints import CheckpointCatalog
    from steep.cli.launch import is_busy
    from steep.spec.stages import ORDER, Stage

    busy = is_busy(run)
    results = run.results()
    is_selected = results is not None and run.completion(Stage.SELECT) is not None
    selected = results.selected if results is not None and is_selected else None
    checkpoints = {one.step: one.tokens_seen for one in CheckpointCatalog(run.checkpoints).list()}
    step, newest = view.step, max(checkpoints, default=0)
    if step is not None and not busy and run.completion(Stage.TRAIN) is None and step.step > newest:
        # it was rolled back behind it, or that step was lost with its process: training goes on from the newest checkpoint
        seen = {"step": newest, "tokens_seen": checkpoints.get(newest, 0)}
        step = step.model_copy(update={**seen, "loss": math.nan, "tokens_per_second": math.nan})
    stages: dict[str, str] = {}
    for stage in ORDER:  # what comes after one that is not complete waits for it, and may have to be done again
        waits = any(state != "complete" for state in stages.values())
        stages[str(stage)] = "waiting" if waits else _stage_state(run, view, stage, busy)
    return {
        "run": str(run.path),
        "name": run.spec().name,
        "working": busy,
        "stages": stages,
        "step": None if step is None else step.step,
        "total_steps": None if step is None else step.total_steps,
        "tokens_seen": None if step is None else step.tokens_seen,
        "loss": None if step is None else _known(step.loss),
        "tokens_per_second": None if step is None else _known(step.tokens_per_second),
        "remaining_seconds": view.remaining_seconds if busy else None,
        "checkpoints": sorted(checkpoints),
        "selected": None if selected is None else selected.model_dump(mode="json"),
        "warnings": list(dict.fromkeys(notice.message for notice in view.notices if notice.level != "info")),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _stage_state(run: RunDirectory, view: View, stage: Any, busy: bool) -> str:
    """complete, working, stopped, failed or waiting."""
    report = view.stages.get(stage)
    if report is not None and report.event == "started":
        return "working" if busy else "stopped"
    if report is not None and report.event in ("stopped", "failed"):
        return report.event
    return "complete" if run.completion(stage) is not None else "waiting"


def _print_status(facts: dict[str, Any], view: View) -> None:
    from rich.console import Console

    from steep.cli.console import evaluation_cells
    from steep.spec.units import format_seconds, format_tokens

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{facts['name']} in {facts['run']}: {'at work' if facts['working'] else 'not at work'}")
    console.print("  ".join(f"{stage}: {state}" for stage, state in facts["stages"].items()))
    if facts["step"] is not None:
        of = f" of {facts['total_steps']}" if facts["total_steps"] else ""
        left = facts["remaining_seconds"]
        words = [f"step {facts['step']}{of}", f"{format_tokens(facts['tokens_seen'])} tokens seen"]
        if facts["loss"] is not None:
            words.insert(1, f"loss {facts['loss']:.3f}")
        if facts["tokens_per_second"] is not None:
            words.append(f"{format_tokens(facts['tokens_per_second'])} tokens/s")
        if left:
            words.append(f"{format_seconds(left)} left")
        console.print(", ".join(words))
    for step in sorted(view.evaluations):
        name, domain, gain, general, forgetting = evaluation_cells(view, step)
        console.print(f"  {name:<12} domain {domain}  gain {gain}  general {general}  forgetting {forgetting}")
    if facts["checkpoints"]:
        console.print("checkpoints at steps " + ", ".join(str(step) for step in facts["checkpoints"]))
    for warning in facts["warnings"]:
        console.print(f"warning: {warning}")


def plot(
    directory: Path = RunArgument, json: bool = typer.Option(False, "--json", help="Print the paths as JSON.")
) -> None:
    """Draw the charts of a run from what was measured so far: hold-outs over tokens, gain against forgetting."""
    from steep.artifacts.rundir import RunDirectory
    from steep.cli.output import print_json
    from steep.cli.paths import shown
    from steep.cli.plotting import draw_run

    run = RunDirectory.existing(directory)
    paths = draw_run(run, _view(run))
    if json:
        print_json([str(path) for path in paths])
    else:
        for path in paths:
            print(shown(path))
