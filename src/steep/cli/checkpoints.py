"""`steep checkpoints`: list, check, protect, measure, compare, export and delete the checkpoints of a run or of a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from steep.cli.watch import RunOrJob
from steep.spec.errors import InvalidInput

app = typer.Typer(
    name="checkpoints", no_args_is_help=True, help="The checkpoints of a run or of a job, and what they let you do."
)
StepArgument = typer.Argument(metavar="STEP", help="The checkpoint's step.")
JsonOption = typer.Option(False, "--json", help="Print the answer as JSON.")


@app.command("list")
def list_checkpoints(where: str = RunOrJob, json: bool = JsonOption) -> None:
    """All checkpoints. Of a run as a tree: lines that were rolled back and branches stand below where they left."""
    from steep.cli.shelf import open_shelf

    with open_shelf(where) as shelf:
        shelf.print_all(json=json)


@app.command()
def show(where: str = RunOrJob, step: int = StepArgument, json: bool = JsonOption) -> None:
    """Everything that is known of one checkpoint: its files, fingerprints, parent and numbers."""
    from steep.cli.shelf import open_shelf

    with open_shelf(where) as shelf:
        shelf.print_one(step, json=json)


@app.command()
def verify(
    where: str = RunOrJob,
    step: int | None = typer.Argument(None, metavar="[STEP]", help="One checkpoint; all of them by default."),
    json: bool = JsonOption,
) -> None:
    """Read every byte and compare with the manifest. Exit code 1 when a checkpoint is damaged."""
    from steep.cli.output import print_json
    from steep.cli.shelf import open_shelf

    with open_shelf(where) as shelf:
        found = shelf.verify(step)
    if json:
        print_json([{"step": one, "valid": why is None, "problem": why} for one, why in found.items()])
    else:
        for one, why in found.items():
            print(f"step {one}: {'valid' if why is None else why}")
    if any(found.values()):
        raise typer.Exit(1)


@app.command()
def pin(where: str = RunOrJob, step: int = StepArgument, json: bool = JsonOption) -> None:
    """Protect a checkpoint: neither retention nor `delete` takes it away."""
    from steep.cli.output import print_json
    from steep.cli.shelf import open_shelf

    with open_shelf(where) as shelf:
        shelf.pin(step)
    print_json({"step": step, "pinned": True}) if json else print(f"Checkpoint {step} is pinned.")


@app.command()
def unpin(where: str = RunOrJob, step: int = StepArgument, json: bool = JsonOption) -> None:
    """Take the protection away."""
    from steep.cli.output import print_json
    from steep.cli.shelf import open_shelf

    with open_shelf(where) as shelf:
        shelf.unpin(step)
    print_json({"step": step, "pinned": False}) if json else print(f"Checkpoint {step} is not pinned any more.")


@app.command()
def delete(
    where: str = RunOrJob,
    steps: list[int] = typer.Argument(metavar="STEP...", help="The checkpoints to delete."),
    json: bool = JsonOption,
) -> None:
    """Delete checkpoints, and say how many bytes that freed. Not those that are pinned or that a branch needs."""
    from steep.cli.output import print_json
    from steep.cli.shelf import open_shelf
    from steep.spec.units import format_bytes

    with open_shelf(where) as shelf:
        freed = shelf.delete(steps)
    if json:
        print_json([{"step": step, "freed_bytes": size} for step, size in freed.items()])
    else:
        for step, size in freed.items():
            print(f"Checkpoint {step} deleted; {format_bytes(size)} freed.")


@app.command()
def prune(
    where: str = RunOrJob,
    keep_last: int = typer.Option(1, "--keep-last", metavar="NUMBER", min=1, help="Keep so many of the newest."),
    keep_best: int = typer.Option(1, "--keep-best", metavar="NUMBER", min=1, help="Keep so many of the best."),
    only_set_aside: bool = typer.Option(
        False, "--only-set-aside", help="Only what was set aside by going back; all of the own line stays."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say which would go."),
    json: bool = JsonOption,
) -> None:
    """Delete checkpoints that need not be kept, and what was set aside by going back; say how many bytes that freed.

    Pinned ones stay, the selected one, the newest that is known to be valid, and those that something descends from.
    """
    from steep.cli.output import print_json
    from steep.cli.shelf import open_shelf
    from steep.spec.units import format_bytes

    with open_shelf(where) as shelf:
        pruned = shelf.prune(keep_last=keep_last, keep_best=keep_best, only_set_aside=only_set_aside, dry_run=dry_run)
    if json:
        print_json(pruned.model_dump(mode="json"))
        return
    steps = ", ".join([*map(str, pruned.steps), *(f"{step} (set aside)" for step in pruned.aside_steps)]) or "none"
    verb = "would go" if dry_run else "deleted"
    print(f"Checkpoints {verb}: {steps}; {format_bytes(pruned.freed_bytes)} {'would be ' if dry_run else ''}freed.")


@app.command()
def evaluate(
    where: str = RunOrJob,
    step: int = StepArgument,
    tasks: list[str] = typer.Option(
        [], "--task", metavar="TASK", help="Also this lm-evaluation-harness task, or YAML file."
    ),
    texts: list[str] = typer.Option(
        [], "--text", metavar="PATH", help="Of a job: also this text, in bits per byte, on the base too."
    ),
    watch: bool = typer.Option(False, "--watch", help="Of a job: wait for the numbers. Ctrl-C leaves it at work."),
    json: bool = JsonOption,
) -> None:
    """Score a checkpoint on the run's hold-outs (and on tasks), and add the numbers to its results.

    Of a job of the service, it is a job of its own that measures the tasks and texts that you name.
    """
    from steep.artifacts.checkpoints import CheckpointCatalog
    from steep.cli.catalog import print_score
    from steep.cli.launch import act
    from steep.cli.missing import require_measured
    from steep.cli.output import print_json
    from steep.cli.service.connect import job_meant
    from steep.cli.service.measuring import evaluate_of_job
    from steep.cli.shelf import existing_run

    if (job := job_meant(where)) is not None:
        evaluate_of_job(job, step, _tasks(tasks), texts, watch=watch, json=json)
        return
    run = existing_run(where)
    if texts or watch:
        raise InvalidInput("--text and --watch are for jobs of the service", where=where, cure="See `steep score`.")
    CheckpointCatalog(run.checkpoints).get(step)
    require_measured(_tasks(tasks), ())
    answer = act("evaluate", {"run": str(run.path), "step": step, "tasks": _tasks(tasks)})
    print_json(answer) if json else print_score(answer)


@app.command()
def compare(
    where: str = RunOrJob,
    steps: list[int] = typer.Argument(None, metavar="[STEP]...", help="These; all that were measured by default."),
    json: bool = JsonOption,
) -> None:
    """Put checkpoints side by side with the base: gain, forgetting, each hold-out and task."""
    from steep.cli.catalog import compared, print_comparison
    from steep.cli.output import print_json
    from steep.cli.shelf import open_shelf

    with open_shelf(where) as shelf:
        scores = compared(shelf.results(), steps or [], where)
    if json:
        print_json([score.model_dump(mode="json") for score in scores])
    else:
        print_comparison(scores)


@app.command()
def export(
    where: str = RunOrJob,
    step: int = StepArgument,
    out: Path = typer.Option(
        ..., "--out", metavar="DIR", help="Where to write the model; must not exist, or be empty."
    ),
    alpha: float | None = typer.Option(
        None,
        "--alpha",
        metavar="SHARE",
        min=0.0,
        max=1.0,
        help="Mix with the base: the share of the checkpoint's weights.",
    ),
    dtype: str | None = typer.Option(
        None, "--dtype", metavar="TYPE", help="bf16, fp16 or fp32; by default what the base is stored in."
    ),
    json: bool = JsonOption,
) -> None:
    """Export a checkpoint as a Hugging Face directory, read back with plain transformers before it is called done."""
    from steep.artifacts.checkpoints import CheckpointCatalog
    from steep.cli.launch import act
    from steep.cli.output import print_json
    from steep.cli.paths import require_directory, shown
    from steep.cli.shelf import existing_run

    run = existing_run(where, "exported from here")
    CheckpointCatalog(run.checkpoints).get(step)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidInput("exists already", where=str(out), cure="Give another --out.")
    require_directory(out, "--out")
    if dtype not in (None, "bf16", "fp16", "fp32"):
        raise InvalidInput(f"there is no type {dtype!r}", where="--dtype", cure="Choose bf16, fp16 or fp32.")
    mix: dict[str, Any] = {"alpha": alpha, "dtype": dtype}
    answer = act("export", {"run": str(run.path), "step": step, "out": str(out.resolve()), **mix})
    if json:
        print_json(answer)
    else:
        print(f"Exported to {shown(out.resolve())}.")


def _tasks(tasks: list[str]) -> list[str]:
    return [str(Path(task).resolve()) if task.endswith((".yaml", ".yml")) else task for task in tasks]
