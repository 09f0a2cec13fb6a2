"""From measurements to tables: medians, ratios of neighbouring measurements, Markdown. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from comparison.rows import Comparison, Measurement, Row, Side

BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"


@dataclass(frozen=True)
class Spread:
    """Median, least and most of some numbers."""

    median: float
    least: float
    most: float
    num: int

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        """Of at least one number."""
        return cls(statistics.median(numbers), min(numbers), max(numbers), len(numbers))


def ratios(comparison: Comparison, measurements: Sequence[Measurement]) -> list[float]:
    """One ratio for each repeat in which both sides were measured, so that what slows a machine for a while slows both."""
    ours = _by_repeat(comparison.ours, measurements)
    theirs = _by_repeat(comparison.theirs, measurements)
    return [_ratio(comparison, ours[number], theirs[number]) for number in sorted(ours.keys() & theirs.keys())]


def worst_difference(ours: Sequence[float], theirs: Sequence[float], first: int) -> float:
    """The largest relative difference of two curves from the point `first` on."""
    pairs = list(zip(ours, theirs, strict=True))[first:]
    return max(abs(one - other) / abs(other) for one, other in pairs)


def meets(comparison: Comparison, ratio: float) -> bool | None:
    """Whether a ratio reaches the goal; None where there is no goal."""
    if comparison.goal is None:
        return None
    return ratio >= comparison.goal if comparison.kind == "times" else ratio <= comparison.goal


def tables(row: Row, measurements: Sequence[Measurement]) -> str:
    """What was measured, and how Steep compares, in Markdown."""
    mine = [one for one in measurements if one.row == row.name]
    if not mine:
        return "Not measured yet.\n"
    blocks = [_sides(row, mine), _comparisons(row, mine)]
    return "\n".join(block for block in blocks if block)


def put_between(text: str, name: str, body: str) -> str:
    """The text with `body` between the markers of that name; they are added at the end where there are none.

    Raises:
        ValueError: one marker stands there without the other.
    """
    begin, end = BEGIN.format(name), END.format(name)
    block = f"{begin}\n\n{body.strip()}\n\n{end}"
    if begin not in text and end not in text:
        return f"{text.rstrip()}\n\n## {name}\n\n{block}\n"
    head, found_begin, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"the markers of {name} are not a pair")
    return head + block + tail


def markdown(head: Sequence[str], body: Sequence[Sequence[str]], *, words: int) -> str:
    """A table whose first `words` columns hold words and the others numbers."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "".join("| " + " | ".join(cells) + " |\n" for cells in (head, rule, *body))


def number(value: float) -> str:
    """Three significant digits, and thousands in groups."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _sides(row: Row, measurements: Sequence[Measurement]) -> str:
    body = []
    for metric in row.metrics:
        for side in row.sides:
            found = [one.values[metric.name] for one in _of(side, measurements) if metric.name in one.values]
            numbers = [value / metric.per for value in found]
            if numbers:
                spread = Spread.of(numbers)
                cells = [number(spread.median), f"{number(spread.least)} to {number(spread.most)}", str(spread.num)]
                body.append([side.label, f"{metric.label}, {metric.unit}", *cells])
    return markdown(["side", "measured", "median", "least to most", "repeats"], body, words=2) if body else ""


def _comparisons(row: Row, measurements: Sequence[Measurement]) -> str:
    body = []
    for comparison in row.comparisons:
        found = ratios(comparison, measurements)
        if not found:
            continue
        spread = Spread.of(found)
        met = meets(comparison, spread.median)
        shown = [comparison.show(value) for value in (spread.median, spread.least, spread.most)]
        goal = "" if comparison.goal is None else comparison.words_of_goal()
        body.append(
            [
                f"{comparison.what}: {row.side(comparison.ours).label}",
                row.side(comparison.theirs).label,
                shown[0],
                f"{shown[1]} to {shown[2]}",
                goal,
                {True: "yes", False: "no", None: ""}[met],
            ]
        )
    head = ["what", "against", "median ratio", "least to most", "goal", "met"]
    return markdown(head, body, words=2) if body else ""


def _of(side: Side, measurements: Sequence[Measurement]) -> list[Measurement]:
    return [one for one in measurements if one.side == side.name]


def _by_repeat(side: str, measurements: Sequence[Measurement]) -> dict[int, Measurement]:
    return {one.repeat: one for one in measurements if one.side == side}


def _ratio(comparison: Comparison, ours: Measurement, theirs: Measurement) -> float:
    metric = comparison.metric.name
    if comparison.kind == "curve":
        return worst_difference(ours.curves[metric], theirs.curves[metric], comparison.first)
    one, other = ours.values[metric], theirs.values[metric]
    if comparison.kind == "times" and not comparison.metric.more_is_better:
        one, other = other, one
    return one / other if other else float("inf")
