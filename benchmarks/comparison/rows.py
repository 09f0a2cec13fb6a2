"""What is measured: rows, each with its sides, what is read off them, and how they are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Metric:
    """A number that each measurement gives.

    Args:
        name: in the measurement's values.
        label, unit: in tables.
        more_is_better: or less.
        per: tables show it divided by this.
    """

    name: str
    label: str
    unit: str
    more_is_better: bool = False
    per: float = 1.0


@dataclass(frozen=True)
class Side:
    """One of those that are measured side by side.

    Args:
        name: within its row.
        label: in tables.
        script: module of `comparison.sides` that measures it in a process of its own.
        arguments: makes what the script needs, and gives what it is told.
        peer: it runs in the peers' environment.
    """

    name: str
    label: str
    script: str
    arguments: Callable[[], Mapping[str, Any]]
    peer: bool = False


@dataclass(frozen=True)
class Comparison:
    """One of Steep's sides beside a peer's.

    Args:
        what: in words.
        metric: which number.
        ours, theirs: names of the sides.
        kind: `times`: how many times better Steep is; `share`: what Steep takes of what the peer takes; `curve`: the
            largest relative difference of two curves.
        goal: at least so many times, at most such a share or difference.
        first: where a curve begins to count.
    """

    what: str
    metric: Metric
    ours: str
    theirs: str
    kind: Literal["times", "share", "curve"]
    goal: float | None = None
    first: int = 0

    def show(self, ratio: float) -> str:
        """A ratio for people."""
        return f"{ratio:.3%}" if self.kind == "curve" else f"{ratio:.2f}x"

    def words_of_goal(self) -> str:
        """The goal for people."""
        assert self.goal is not None
        shown = f"{self.goal:.0%}" if self.kind == "curve" else f"{self.goal:g}x"
        return f"at {'least' if self.kind == 'times' else 'most'} {shown}"


@dataclass(frozen=True)
class Row:
    """A row of the comparison.

    Args:
        name: on the command line and in the markers of the page.
        title: in words.
        sides: in the order in which they take turns.
        metrics: shown of every side.
        comparisons: what is concluded.
        repeats: how often, where the command line does not say; None: as often as the others.
    """

    name: str
    title: str
    sides: tuple[Side, ...]
    metrics: tuple[Metric, ...]
    comparisons: tuple[Comparison, ...]
    repeats: int | None = None

    def side(self, name: str) -> Side:
        """The side of that name."""
        return next(side for side in self.sides if side.name == name)


@dataclass(frozen=True)
class Measurement:
    """What one process measured.

    Args:
        row, side, repeat: of what.
        values: numbers by metric.
        curves: lists of numbers by metric.
        facts: what else a reader may want to know, such as the precision that was chosen.
    """

    row: str
    side: str
    repeat: int
    values: Numbers
    curves: Mapping[str, list[float]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
