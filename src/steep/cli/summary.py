"""What a finished run has to show: the table, what was selected and why, files, and what to do next."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from steep.artifacts.rundir import RunDirectory
from steep.cli.paths import shown, steep_command
from steep.spec.results import Completion, Results
from steep.spec.stages import Stage

COMPLETION_CHARACTERS = 400


def as_json(run: RunDirectory) -> dict[str, Any]:
    """The same for programs."""
    results = run.results()
    return {
        "run": str(run.path),
        "stages": {str(stage): run.completion(stage) is not None for stage in Stage},
        "results": None if results is None else results.model_dump(mode="json"),
        "charts": [str(path) for path in charts(run)],
        "export": str(run.export) if has_export(run) else None,
    }


def charts(run: RunDirectory) -> list[Path]:
    """The charts that were drawn."""
    return sorted(run.charts.glob("*.png")) if run.charts.is_dir() else []


def has_export(run: RunDirectory) -> bool:
    """Whether the selected model lies there, read back."""
    return bool((run.export / "config.json").exists())


def show(run: RunDirectory, console: Console) -> None:
    """Print it."""
    results = run.results()
    if results is not None:
        show_results(results, console)
        _files(run, console)


def show_results(results: Results, console: Console) -> None:
    """Print the numbers, what was selected and why, and the completions."""
    console.print()
    console.print(table(results))
    selected = results.selected
    if selected is not None:
        reason = results.selection_reason.removeprefix(f"{selected.label}: ")
        console.print(Text.assemble((f"\nSelected: {selected.label}: ", "bold"), reason))
        gain = f"{selected.gain:+.3f} bits per byte on your text" if math.isfinite(selected.gain) else "not measured"
        forgotten = (
            f"; forgetting {selected.forgetting:+.3f} on the worst general text (budget {results.forgetting_budget:g})"
            if results.can_forget
            else ""
        )
        console.print(f"Gain {gain}{forgotten}.", highlight=False)
    for warning in results.warnings:
        console.print(Text(f"Warning: {warning}", "yellow"))
    for completion in results.completions:
        _completion(completion, console)


def table(results: Results) -> Table:
    """All models that were measured, in bits per byte; the selected row in bold."""
    from steep.evaluate.table import HEADERS, rows

    drawn = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title="Bits per byte", title_justify="left")
    for i, header in enumerate(HEADERS):
        left = i in (0, 6)
        drawn.add_column(header, justify="left" if left else "right", no_wrap=i < 6, overflow="fold")
    for cells, score in zip(rows(results), results.scores, strict=True):
        mark = "*" if score.selected else ""  # the sentence below names it; the word would not fit a narrow terminal
        drawn.add_row(*cells[:-1], mark, style="bold green" if score.selected else None)
    tasks = [score for score in results.scores if score.tasks]
    if tasks:
        drawn.caption = "\n".join(
            f"{score.label}  {task}: " + "  ".join(f"{metric} {value:.3f}" for metric, value in metrics.items())
            for score in tasks
            for task, metrics in score.tasks.items()
        )
        drawn.caption_justify = "left"
    return drawn


def _completion(completion: Completion, console: Console) -> None:
    console.print()
    console.print(Text(f"Prompt: {completion.prompt}", "bold"))
    for name, text in (("base", completion.base), ("selected", completion.selected)):
        shortened = " ".join(text.split())[:COMPLETION_CHARACTERS]
        console.print(Text.assemble((f"  {name:<9}", "dim"), shortened))


def _files(run: RunDirectory, console: Console) -> None:
    console.print()
    for chart in charts(run):
        console.print(f"Chart   {shown(chart)}", soft_wrap=True, highlight=False, markup=False)
    if has_export(run):
        console.print(f"Export  {shown(run.export)}", soft_wrap=True, highlight=False, markup=False)
    here = shlex.quote(shown(run.path))
    console.print("\nNext, look at the checkpoints, one of which may serve you better:", highlight=False)
    console.print(f"  {steep_command()} checkpoints list {here}", soft_wrap=True, highlight=False, markup=False)
