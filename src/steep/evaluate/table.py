"""The results as a table: Markdown for model cards and docs, plain columns for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from steep.spec.results import Results, Score
from steep.spec.units import format_tokens

HEADERS = ("model", "tokens", "domain", "gain", "general", "forgetting", "worst on", "")
_RIGHT = (False, True, True, True, True, True, False, False)
SELECTED = "selected"


def rows(results: Results, *, everything: bool = True) -> list[tuple[str, ...]]:
    """Cells of the table, a row a model, in bits per byte.

    Args:
        results: what was measured.
        everything: all rows; otherwise only the base's and the selected one.
    """
    chosen = [s for s in results.scores if everything or s.kind == "base" or s.selected]
    return [_cells(score) for score in chosen]


def markdown(results: Results, *, everything: bool = True) -> str:
    """The table in Markdown, the selected row in bold, with one column a task metric where tasks were run."""
    headers, body = _with_tasks(results, everything)
    lines = [_line(headers), _line(["---:" if right else "---" for right in _alignment(len(headers))])]
    for cells in body:
        bold = cells[-1] == SELECTED
        lines.append(_line([f"**{cell}**" if bold and cell else cell for cell in cells]))
    return "\n".join(lines) + "\n"


def plain(results: Results, *, everything: bool = True) -> str:
    """The table in aligned columns, for a terminal or a log."""
    headers, body = _with_tasks(results, everything)
    widths = [max(len(row[i]) for row in [headers, *body]) for i in range(len(headers))]
    right = _alignment(len(headers))

    def line(cells: Sequence[str]) -> str:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *(line(cells) for cells in body)]) + "\n"


def _cells(score: Score) -> tuple[str, ...]:
    base = score.kind == "base"
    return (
        score.label,
        "-" if base else format_tokens(score.tokens_seen),
        _number(score.domain_bpb),
        "-" if base else _signed(score.gain),
        _number(score.general_bpb),
        "-" if base else _signed(score.forgetting),
        score.worst_general or "-",
        SELECTED if score.selected else "",
    )


def _with_tasks(results: Results, everything: bool) -> tuple[list[str], list[list[str]]]:
    chosen = [s for s in results.scores if everything or s.kind == "base" or s.selected]
    columns = list(dict.fromkeys((t, m) for s in chosen for t, metrics in s.tasks.items() for m in metrics))
    headers = [*HEADERS[:-1], *(f"{task} {metric}" for task, metric in columns), HEADERS[-1]]
    body = []
    for score in chosen:
        cells = _cells(score)
        values = [_number(score.tasks.get(task, {}).get(metric, float("nan"))) for task, metric in columns]
        body.append([*cells[:-1], *values, cells[-1]])
    return headers, body


def _alignment(num_columns: int) -> list[bool]:
    """Whether each column is aligned to the right; those between the fixed ones and the mark are task metrics."""
    return [*_RIGHT[:-1], *([True] * (num_columns - len(_RIGHT))), False]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _signed(value: float) -> str:
    return f"{value:+.3f}" if math.isfinite(value) else "-"
