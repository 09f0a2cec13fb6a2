"""`steep rollback` and `steep branch`: go back to a checkpoint, or on from it in another way."""

from __future__ import annotations

from pathlib import Path

import typer

from steep.cli.watch import RunArgument


def rollback(
    directory: Path = RunArgument,
    step: int = typer.Option(..., "--to", metavar="STEP", help="The checkpoint to go back to."),
    json: bool = typer.Option(False, "--json", help="Print the answer as JSON."),
) -> None:
    """Set the checkpoints after STEP aside; the next `steep run` goes on from STEP. Nothing is deleted."""
    from steep.artifacts.lineage import rollback as roll
    from steep.artifacts.rundir import RunDirectory
    from steep.cli.output import print_json
    from steep.cli.paths import shown

    run = RunDirectory.existing(directory)
    line = roll(run, step)
    if json:
        print_json({"run": str(run.path), "step": step, "abandoned": None if line is None else line.model_dump()})
    elif line is None:
        print(f"There was nothing after step {step}; the next `steep run` goes on from it.")
    else:
        steps = ", ".join(str(one) for one in line.steps)
        place = shown(run.checkpoints / line.name)
        print(f"Back at step {step}. Set aside in {place}: {steps}. The next `steep run` goes on from step {step}.")
        print(f"`steep checkpoints prune {shown(run.path)} --only-set-aside` frees their space.")


def branch(
    directory: Path = RunArgument,
    step: int = typer.Option(..., "--from", metavar="STEP", help="The checkpoint to go on from, with all its state."),
    name: str = typer.Option(..., "--name", metavar="NAME", help="Name of the new job."),
    overrides: list[str] = typer.Option(
        [],
        "--set",
        metavar="KEY=VALUE",
        help="What the branch does in another way, such as training.learning_rate=1e-5.",
    ),
    into: Path | None = typer.Option(
        None, "--dir", metavar="RUN", help="The new run directory; beside the old one by default.", show_default=False
    ),
    json: bool = typer.Option(False, "--json", help="Print the answer as JSON."),
) -> None:
    """Make a new run that goes on from a checkpoint of another. From the trunk of a WSD run it decays from there."""
    import shlex

    from steep.artifacts.lineage import branch as make_branch
    from steep.artifacts.rundir import RunDirectory
    from steep.cli.output import print_json
    from steep.cli.paths import shown
    from steep.spec.load import load_spec

    run = RunDirectory.existing(directory)
    spec = load_spec(run.job_file, overrides=[*overrides, f"name={name}"])
    new = make_branch(run, step, into or run.path.with_name(name), spec)
    if json:
        print_json({"run": str(new.path), "name": name, "from": str(run.path), "step": step})
        return
    here = shlex.quote(shown(new.path))
    print(f"Branched at step {step} into {shown(new.path)}. To train it:")
    print(f"  steep run {shlex.quote(shown(new.job_file))} --dir {here}")
