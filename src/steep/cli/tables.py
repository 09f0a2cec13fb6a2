"""Tables and times for people."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from steep.spec.units import format_seconds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PIPE_WIDTH = 200
STATE_STYLES = {
    "running": "green",
    "succeeded": "bold green",
    "failed": "bold red",
    "unreachable": "yellow",
    "stopping": "yellow",
    "cancelled": "dim",
}


def answer_console() -> Console:
    """Where answers are printed; into a pipe, lines are long enough to hold a row."""
    from rich.console import Console

    narrow = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=PIPE_WIDTH if narrow else None, highlight=False, markup=False)


def print_table(
    headers: Sequence[str], rows: Iterable[Sequence[str | Text]], *, empty: str, right: Collection[str] = ()
) -> None:
    """A table, or a sentence where it would have no rows.

    Args:
        headers: of the columns; the last one may be folded, the others keep to a line.
        rows: cells of each row.
        empty: what to say of no rows.
        right: headers of columns that hold numbers.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for header in headers:
        last = header == headers[-1]
        table.add_column(header, justify="right" if header in right else "left", no_wrap=not last, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    if table.row_count:
        answer_console().print(table)
    else:
        print(empty)


def state_cell(state: str, word: str = "") -> Text:
    """A state in its colour."""
    from rich.text import Text

    return Text(word or state, STATE_STYLES.get(state, ""))


def moment(at: float | None) -> str:
    """A time of day with its date, as people here write it."""
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def ago(at: float | None) -> str:
    """How long something is past, or ahead."""
    if at is None:
        return "-"
    passed = time.time() - at
    if passed < 0:
        return f"in {span(-passed)}"
    return f"{span(passed)} ago"


def span(seconds: float) -> str:
    """A duration; days where there are many hours."""
    days = seconds / 86_400
    return f"{days:.0f} days" if days >= 2 else format_seconds(seconds)
