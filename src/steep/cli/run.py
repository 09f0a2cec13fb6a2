"""`steep run`: a job from its file to the export, watched from here and done by a worker process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from steep.spec.stages import Stage

if TYPE_CHECKING:
    from rich.console import Console

    from steep.artifacts.rundir import RunDirectory
    from steep.spec.job import JobSpec

JobFile = typer.Argument(metavar="JOB.yaml", help="The job spec, YAML or TOML.")
RunOption = typer.Option(
    None, "--dir", metavar="RUN", help="The run directory; runs/<name> by default.", show_default=False
)
SetOption = typer.Option([], "--set", metavar="KEY=VALUE", help="Change a field, such as training.learning_rate=1e-5.")
JsonOption = typer.Option(False, "--json", help="Print the answer as JSON.")


def run(
    job: Path = JobFile,
    directory: Path | None = RunOption,
    overrides: list[str] = SetOption,
    until: Stage | None = typer.Option(None, "--until", metavar="STAGE", help="Stop after this stage."),
    detach: bool = typer.Option(False, "--detach", help="Start the worker and return; `steep watch RUN` shows it."),
    json: bool = JsonOption,
) -> None:
    """Run a job: prepare, assess, train, evaluate, select, export.

    The same command again goes on where it was. Ctrl-C saves a checkpoint and stops with exit code 3.
    """
    from steep.artifacts.rundir import RunDirectory
    from steep.cli.jobfile import read_job
    from steep.cli.missing import require_paths
    from steep.cli.paths import default_run

    spec = read_job(job, overrides)
    place = RunDirectory(directory or default_run(spec.name))
    if place.completion(Stage.PREPARE) is None:  # one that is prepared reads its text no more
        require_paths(spec, job)
    work(place, spec, until=until, detach=detach, json=json)


def work(run: RunDirectory, spec: JobSpec, *, until: Stage | None, detach: bool = False, json: bool = False) -> None:
    """Take `spec` to a run directory and see it through; raises how it ended unless that was well."""
    import shlex

    from rich.console import Console

    from steep.cli import launch
    from steep.cli.follow import follow
    from steep.cli.output import print_json, say
    from steep.cli.paths import shown
    from steep.cli.summary import as_json

    console = Console(stderr=json)
    changed = _announce(run, spec, console)
    if not changed and launch.is_busy(run) and launch.is_orphaned(run):
        console.print("A worker is at it, though what started it is gone; watching it.")
        error = follow(run, console, history=True)
    else:
        with run.lock():
            run.write_spec(spec)
        if detach:
            worker = launch.start_worker(run, until=until)
            if json:
                print_json({"run": str(run.path), "worker": worker.pid})
            else:
                say(f"Worker {worker.pid} is at work; `steep watch {shlex.quote(shown(run.path))}` shows it.")
            return
        error = follow(run, console, lambda: launch.start_worker(run, until=until))
    if error is not None:
        raise error
    if json:
        print_json(as_json(run))
    else:
        _conclude(run, console, until)


def _announce(run: RunDirectory, spec: JobSpec, console: Console) -> bool:
    """Say where the run lies and what changed since it was last worked on; whether anything did."""
    from steep.artifacts.checkpoints import CheckpointCatalog
    from steep.cli.changes import changes, stages_again
    from steep.cli.paths import shown
    from steep.spec.errors import SteepError

    console.print(f"{spec.name} in {shown(run.path)}", style="bold", highlight=False, markup=False)
    if not run.job_file.exists():
        return False
    try:
        changed = changes(run.spec(), spec)
    except SteepError:  # written by another version: the new spec takes its place
        console.print("The run's recorded spec cannot be read any more; the stages find out what changed.")
        return True
    if changed:
        console.print("The spec changed since this run was last worked on:", style="yellow")
        for change in changed:
            console.print(f"  {change}", markup=False, highlight=False)
        again = stages_again(changed)
        stages = ", ".join(again) if again else "none; no result depends on these"
        console.print(f"Stages that run again: {stages}.", highlight=False)
        if Stage.TRAIN in again and CheckpointCatalog(run.checkpoints).steps():
            console.print(
                "Where training begins anew, what was trained so far is set aside in the run, "
                "and not lost. To go on from one of its checkpoints instead, stop here (Ctrl-C) and see `steep branch --help`.",
                highlight=False,
                soft_wrap=True,
            )
    return bool(changed)


def _conclude(run: RunDirectory, console: Console, until: Stage | None) -> None:
    from steep.cli.paths import shown
    from steep.cli.summary import show

    if until in (None, Stage.SELECT, Stage.EXPORT):
        show(run, console)
    else:
        console.print(f"Done until {until}; the same command without --until goes on. See {shown(run.path)}.")
