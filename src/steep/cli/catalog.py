"""Checkpoints and their numbers in print."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from steep.artifacts.rundir import RunDirectory
from steep.cli.paths import shown
from steep.spec.errors import InvalidInput
from steep.spec.results import Results, Score
from steep.spec.units import format_bytes, format_tokens

if TYPE_CHECKING:
    from steep.artifacts.checkpoints import CheckpointCatalog
    from steep.artifacts.lineage import TreeRow
    from steep.artifacts.manifest import CheckpointManifest


def scores_by_step(run: RunDirectory) -> dict[int, Score]:
    """The measured checkpoints of a run."""
    results = run.results()
    return {} if results is None else {score.step: score for score in results.scores if score.kind == "checkpoint"}


def row_facts(row: TreeRow, scores: Mapping[int, Score], branches: Mapping[int, Sequence[str]]) -> dict[str, Any]:
    """One checkpoint of the tree, for programs."""
    manifest = row.manifest
    score = scores.get(manifest.step)
    return {
        "step": manifest.step,
        "tokens_seen": manifest.tokens_seen,
        "created_at": manifest.created_at,
        "size_bytes": manifest.size_bytes,
        "line": row.line,
        "depth": row.depth,
        "pinned": row.pinned,
        "is_origin": row.is_origin,
        "branches": list(branches.get(manifest.step, ())),
        "identity": manifest.identity,
        "parent": None if manifest.parent is None else manifest.parent.model_dump(mode="json"),
        "gain": _measured(manifest, score, "gain"),
        "forgetting": _measured(manifest, score, "forgetting"),
        "selected": score is not None and score.selected,
        "metrics": manifest.metrics,
    }


def print_tree(rows: Sequence[TreeRow], scores: Mapping[int, Score], branches: Mapping[int, Sequence[str]]) -> None:
    """The tree of checkpoints as a table; scores and branches are those of the run's own line."""
    console = Console(highlight=False)
    if not rows:
        console.print("There are no checkpoints yet.")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("checkpoint", "tokens", "saved", "size", "gain", "forgetting", ""):
        table.add_column(name, justify="left" if name in ("checkpoint", "") else "right", no_wrap=name != "")
    line = "main"
    for row in rows:
        if row.line != line and row.depth > 0:
            table.add_row(f"{'  ' * row.depth}[dim]{_line_name(row.line)}[/]")
        line = row.line
        manifest = row.manifest
        score = scores.get(manifest.step) if row.depth == 0 else None
        table.add_row(
            f"{'  ' * row.depth}step {manifest.step}",
            format_tokens(manifest.tokens_seen),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(manifest.created_at)),
            format_bytes(manifest.size_bytes),
            *(
                "-" if (value := _measured(manifest, score, name)) is None else f"{value:+.3f}"
                for name in ("gain", "forgetting")
            ),
            _marks(row, score, branches.get(manifest.step, ()) if row.depth == 0 else ()),
        )
    console.print(table)


def _measured(manifest: CheckpointManifest, score: Score | None, name: str) -> float | None:
    """A checkpoint's number in the table of results, or, where it is in none, what training measured."""
    return manifest.metrics.get(name) if score is None else float(getattr(score, name))


def print_selected(results: Results | None) -> None:
    """What was selected, which may be a mix or an average and so no row of the tree."""
    selected = None if results is None else results.selected
    if results is not None and selected is not None:
        gain = f"{selected.gain:+.3f}" if math.isfinite(selected.gain) else "not measured"
        forgotten = f", forgetting {selected.forgetting:+.3f}" if results.can_forget else ""
        print(f"\nSelected: {selected.label}, gain {gain}{forgotten}.")


def _line_name(line: str) -> str:
    return f"branch {shown(Path(line))}" if Path(line).is_absolute() else line


def _marks(row: TreeRow, score: Score | None, branches: Sequence[str]) -> str:
    marks = {
        "selected": score is not None and score.selected,
        "pinned": row.pinned,
        "branched from here": row.is_origin,
        **{f"branch {Path(name).name}": Path(name).is_absolute() for name in branches},
    }
    return ", ".join(name for name, there in marks.items() if there)


def print_manifest(manifest: CheckpointManifest, catalog: CheckpointCatalog, score: Score | None) -> None:
    """All about one checkpoint."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    step = manifest.step
    console.print(f"step {step} at {shown(catalog.path(step))}")
    console.print(f"  saved         {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(manifest.created_at))}")
    console.print(f"  tokens seen   {manifest.tokens_seen:,}")
    console.print(f"  next sequence {manifest.cursor:,}")
    console.print(f"  identity      {manifest.identity}")
    parent = manifest.parent
    if parent is not None:
        console.print(f"  parent        step {parent.step}" + (f" of {parent.run}" if parent.run else ""))
    if catalog.pinned(step):
        console.print("  pinned")
    for name in catalog.branches(step):
        console.print(f"  branch        {_line_name(name)}")
    for name, record in manifest.files.items():
        console.print(f"  {name:<28} {format_bytes(record.size_bytes):>9}  blake3 {record.blake3[:16]}")
    for name, value in manifest.metrics.items():
        console.print(f"  {name:<28} {value:.4f}")
    if score is not None:
        print_score(score.model_dump(mode="json"))


def print_score(score: Mapping[str, Any]) -> None:
    """A row of results in words."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"domain {score['domain_bpb']:.4f} (gain {score['gain']:+.4f}), general {score['general_bpb']:.4f} "
        f"(forgetting {score['forgetting']:+.4f}), bits per byte"
    )
    for kind in ("domain", "general"):
        for name, bpb in score.get(kind, {}).items():
            console.print(f"  {kind} {name}: {bpb:.4f}")
    for task, metrics in score.get("tasks", {}).items():
        console.print(f"  task {task}: " + ", ".join(f"{metric} {value:.4f}" for metric, value in metrics.items()))


def compared(results: Results | None, steps: Sequence[int], where: str) -> list[Score]:
    """The base and the rows of these steps, or all rows; `where` is the run or the job.

    Raises:
        InvalidInput: nothing was measured yet, or not these.
    """
    if results is None:
        raise InvalidInput("has no results yet", where=where, cure="`steep run` measures every checkpoint.")
    measured = {score.step for score in results.scores if score.kind != "base"}
    missing = [step for step in steps if step not in measured]
    if missing:
        raise InvalidInput(
            f"step {missing[0]} was not measured",
            where=where,
            cure=f"Measure it with `steep checkpoints evaluate`. Measured: {', '.join(map(str, sorted(measured)))}.",
        )
    return [score for score in results.scores if score.kind == "base" or not steps or score.step in steps]


def print_comparison(scores: Sequence[Score]) -> None:
    """Rows side by side, with each hold-out and task in a column of its own."""
    from steep.evaluate.table import plain

    results = Results(name="comparison", base="", forgetting_budget=0.0, scores=tuple(scores))
    print(plain(results), end="")
    names = list(dict.fromkeys(name for score in scores for name in (*score.domain, *score.general)))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title="By hold-out", title_justify="left")
    table.add_column("model")
    for name in names:
        table.add_column(name, justify="right")
    for score in scores:
        values = {**score.domain, **score.general}
        table.add_row(score.label, *(f"{values[name]:.3f}" if name in values else "-" for name in names))
    console = Console(highlight=False)
    console.print()
    console.print(table)
