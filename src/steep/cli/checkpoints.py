"""`steep checkpoints`: list, check, protect, measure, compare, export and delete the checkpoints of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from steep.cli.watch import RunArgument

if TYPE_CHECKING:
    from steep.artifacts.checkpoints import CheckpointCatalog
    from steep.artifacts.rundir import RunDirectory

app = typer.Typer(name="checkpoints", no_args_is_help=True, help="The checkpoints of a run, and what they let you do.")
StepArgument = typer.Argument(metavar="STEP", help="The checkpoint's step.")
JsonOption = typer.Option(False, "--json", help="Print the answer as JSON.")


def _open(directory: Path) -> tuple[RunDirectory, CheckpointCatalog]:
    from steep.artifacts.checkpoints import CheckpointCatalog
    from steep.artifacts.rundir import RunDirectory

    run = RunDirectory.existing(directory)
    return run, CheckpointCatalog(run.checkpoints)


@app.command("list")
def list_checkpoints(directory: Path = RunArgument, json: bool = JsonOption) -> None:
    """All checkpoints as a tree: lines that were rolled back and branches stand below where they left."""
    from steep.artifacts.lineage import tree
    from steep.cli.catalog import print_selected, print_tree, row_facts, scores_by_step
    from steep.cli.output import print_json

    run, catalog = _open(directory)
    rows = tree(run)
    scores = scores_by_step(run)
    branches = {row.manifest.step: catalog.branches(row.manifest.step) for row in rows if row.depth == 0}
    if json:
        print_json([row_facts(row, *((scores, branches) if row.depth == 0 else ({}, {}))) for row in rows])
    else:
        print_tree(rows, scores, branches)
        print_selected(run.results())


@app.command()
def show(directory: Path = RunArgument, step: int = StepArgument, json: bool = JsonOption) -> None:
    """Everything that is known of one checkpoint: its files, fingerprints, parent and numbers."""
    from steep.cli.catalog import print_manifest, scores_by_step
    from steep.cli.output import print_json

    run, catalog = _open(directory)
    manifest = catalog.get(step)
    score = scores_by_step(run).get(step)
    if json:
        facts = manifest.model_dump(mode="json") | {
            "identity": manifest.identity,
            "pinned": catalog.pinned(step),
            "branches": list(catalog.branches(step)),
            "score": None if score is None else score.model_dump(mode="json"),
        }
        print_json(facts)
    else:
        print_manifest(manifest, catalog, score)


@app.command()
def verify(
    directory: Path = RunArgument,
    step: int | None = typer.Argument(None, metavar="[STEP]", help="One checkpoint; all of them by default."),
    json: bool = JsonOption,
) -> None:
    """Read every byte and compare with the manifest. Exit code 1 when a checkpoint is damaged."""
    from steep.cli.output import print_json
    from steep.spec.errors import DamagedArtifact

    _, catalog = _open(directory)
    steps = catalog.steps() if step is None else [step]
    found: dict[int, str | None] = {}
    for one in steps:
        try:
            catalog.verify(one)
            found[one] = None
        except DamagedArtifact as error:
            found[one] = str(error)
    if json:
        print_json([{"step": one, "valid": why is None, "problem": why} for one, why in found.items()])
    else:
        for one, why in found.items():
            print(f"step {one}: {'valid' if why is None else why}")
    if any(found.values()):
        raise typer.Exit(1)


@app.command()
def pin(directory: Path = RunArgument, step: int = StepArgument, json: bool = JsonOption) -> None:
    """Protect a checkpoint: neither retention nor `delete` takes it away."""
    from steep.cli.output import print_json

    _open(directory)[1].pin(step)
    print_json({"step": step, "pinned": True}) if json else print(f"Checkpoint {step} is pinned.")


@app.command()
def unpin(directory: Path = RunArgument, step: int = StepArgument, json: bool = JsonOption) -> None:
    """Take the protection away."""
    from steep.cli.output import print_json

    _open(directory)[1].unpin(step)
    print_json({"step": step, "pinned": False}) if json else print(f"Checkpoint {step} is not pinned any more.")


@app.command()
def delete(
    directory: Path = RunArgument,
    steps: list[int] = typer.Argument(metavar="STEP...", help="The checkpoints to delete."),
    json: bool = JsonOption,
) -> None:
    """Delete checkpoints, and say how many bytes that freed. Not those that are pinned or that a branch needs."""
    from steep.cli.output import print_json
    from steep.spec.units import format_bytes

    run, catalog = _open(directory)
    with run.lock():
        for step in steps:  # all or none: what cannot be deleted is refused before the first is gone
            catalog.get(step)
        guarded = [step for step in steps if catalog.pinned(step) or catalog.branches(step)]
        freed = {step: catalog.delete(step) for step in dict.fromkeys([*guarded, *steps])}
    if json:
        print_json([{"step": step, "freed_bytes": size} for step, size in freed.items()])
    else:
        for step, size in freed.items():
            print(f"Checkpoint {step} deleted; {format_bytes(size)} freed.")


@app.command()
def evaluate(
    directory: Path = RunArgument,
    step: int = StepArgument,
    tasks: list[str] = typer.Option(
        [], "--task", metavar="TASK", help="Also this lm-evaluation-harness task, or YAML file."
    ),
    json: bool = JsonOption,
) -> None:
    """Score a checkpoint on the run's hold-outs (and on tasks), and add the numbers to its results."""
    from steep.cli.catalog import print_score
    from steep.cli.launch import act
    from steep.cli.output import print_json

    run, catalog = _open(directory)
    catalog.get(step)
    answer = act("evaluate", {"run": str(run.path), "step": step, "tasks": _tasks(tasks)})
    print_json(answer) if json else print_score(answer)


@app.command()
def compare(
    directory: Path = RunArgument,
    steps: list[int] = typer.Argument(None, metavar="[STEP]...", help="These; all that were measured by default."),
    json: bool = JsonOption,
) -> None:
    """Put checkpoints side by side with the base: gain, forgetting, each hold-out and task."""
    from steep.cli.catalog import compared, print_comparison
    from steep.cli.output import print_json

    run, _ = _open(directory)
    scores = compared(run, steps or [])
    if json:
        print_json([score.model_dump(mode="json") for score in scores])
    else:
        print_comparison(scores)


@app.command()
def export(
    directory: Path = RunArgument,
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
    from steep.cli.launch import act
    from steep.cli.output import print_json
    from steep.cli.paths import shown
    from steep.spec.errors import InvalidInput

    run, catalog = _open(directory)
    catalog.get(step)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidInput("exists already", where=str(out), cure="Give another --out.")
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
