"""Two pictures of a run's results, as PNG and SVG: what was gained and lost over tokens, and one against the other.

Each chart carries its own card (a warm paper ground with a thin border), so that it reads the same on a light and
a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steep.evaluate.compare import frontier
from steep.spec.results import Results, Score
from steep.spec.units import format_tokens

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, EDGE, INK, MUTED, GRID = "#fbfaf7", "#d9d5cc", "#24272d", "#6b7078", "#e6e2d9"
DOMAIN, SELECTED, LIMIT, LIMITED = "#0f766e", "#be123c", "#8b9099", "#dc2626"
GENERAL = ("#b45309", "#7c3aed", "#2563eb", "#a16207", "#64748b")
LOOKS = {  # marker, colour, size, name
    "base": ("X", INK, 62, "base"),
    "checkpoint": ("o", DOMAIN, 56, "checkpoint"),
    "interpolation": ("D", "#7c3aed", 42, "mixed with base"),
    "average": ("s", "#2563eb", 50, "average"),
}
DASHES = (0, (4, 3))
DOTS: dict[str, Any] = {"marker": "o", "markersize": 5, "markeredgecolor": PAPER, "clip_on": False}
DPI = 200
LABEL_OFFSETS = ((0, -13), (20, 7), (-20, 7), (0, 13))  # points, the best place first
LABEL_ROOM = 13.0  # pixels
STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.5,
    "axes.edgecolor": LIMIT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": GRID,
    "grid.linewidth": 0.9,
    "svg.fonttype": "path",
    "svg.hashsalt": "steep",
}


def draw(results: Results, out: Path) -> list[Path]:
    """Draw the charts into the directory `out` and return their paths: `holdouts` and `tradeoff`, each PNG and SVG.

    The same results give the same bytes. A chart that would show nothing but the base is left out, and so is the trade-off
    where there is nothing to forget; what was drawn of it before is removed.
    """
    trained = [score for score in results.scores if score.kind != "base" and _is_finite(score)]
    if not trained:
        return []
    import matplotlib as mpl

    out.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figures = {"holdouts": _holdouts(results)}
        if results.can_forget:
            figures["tradeoff"] = _tradeoff(results)
        for name in {"tradeoff"} - set(figures):
            for suffix in (".png", ".svg"):
                (out / f"{name}{suffix}").unlink(missing_ok=True)
        return [path for name, figure in figures.items() for path in _save(figure, out / name)]


def _save(figure: Figure, stem: Path) -> list[Path]:
    png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
    figure.savefig(png, dpi=DPI, metadata={"Software": None}, facecolor=PAPER, edgecolor=EDGE)
    figure.savefig(svg, metadata={"Date": None, "Creator": None}, facecolor=PAPER, edgecolor=EDGE)
    return [png, svg]


def _card(height: float, title: str, subtitle: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, height), linewidth=1.6)
    figure.text(0.035, 1 - 0.40 / height, title, fontsize=14, fontweight="bold", va="center")
    figure.text(0.035, 1 - 0.72 / height, subtitle, fontsize=10, color=MUTED, va="center")
    return figure


def _panel(figure: Figure, bounds: tuple[float, float, float, float], **options: Any) -> Axes:
    axes = figure.add_axes(bounds, **options)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(True, axis="both")
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    return axes


# ------------------------------------------------------------------------------------------- hold-outs over tokens


def _holdouts(results: Results) -> Figure:
    """Bits per byte on the domain; where general text is held out, below and on a scale of its own, what that gained or lost."""
    base = results.scores[0]
    line = [base, *sorted((s for s in results.scores if s.kind == "checkpoint" and _is_finite(s)), key=_tokens)]
    labels = ["domain", "budget", *(_clip(name, 18) for name in base.general)]
    width = 0.862 - min(0.2, 0.0108 * max(len(label) for label in labels) + 0.006)
    name, verdict = _clip(results.name, 44), _verdict(results)
    if base.general:
        figure = _card(6.4, f"{name}: learned and forgotten" if results.can_forget else f"{name}: learned", verdict)
        panels = [_panel(figure, (0.105, 0.475, width, 0.36))]
        panels.append(_panel(figure, (0.105, 0.1, width, 0.305), sharex=panels[0]))
        panels[0].tick_params(labelbottom=False)
        _draw_general(panels[1], results, line)
    else:
        figure = _card(4.4, f"{name}: learned", verdict)
        panels = [_panel(figure, (0.105, 0.145, width, 0.615))]
    _draw_domain(panels[0], results, line)
    selected = results.selected
    for axes in panels:
        axes.margins(y=0.16)
        axes.yaxis.set_label_coords(-0.085, 0.5)
    panels[-1].set_xlim(0, max([*map(_tokens, line), selected.tokens_seen if selected else 0]) * 1.015)
    panels[-1].set_xlabel("tokens seen", labelpad=8)
    panels[-1].xaxis.set_major_formatter(_ticks(format_tokens))
    _label_ends(panels[0], [("base", base.domain_bpb, MUTED), ("domain", line[-1].domain_bpb, DOMAIN)])
    if base.general:
        _label_ends(panels[1], _general_ends(results, line[-1]))
    return figure


def _draw_domain(axes: Axes, results: Results, line: Sequence[Score]) -> None:
    """Bits per byte on the domain, and the selected model in a ring."""
    tokens, domain = [score.tokens_seen for score in line], [score.domain_bpb for score in line]
    axes.axhline(line[0].domain_bpb, color=LIMIT, linewidth=1.0)
    axes.plot(tokens, domain, color=DOMAIN, linewidth=2.4, zorder=4, **DOTS)
    axes.set_ylabel("domain, bits per byte", labelpad=8)
    selected = results.selected
    if selected is not None and selected.kind != "base":
        _ring(axes, (selected.tokens_seen, selected.domain_bpb), list(zip(tokens, domain, strict=True)))


def _draw_general(axes: Axes, results: Results, line: Sequence[Score]) -> None:
    """What each general hold-out gained or lost, and how much may be lost."""
    tokens = [score.tokens_seen for score in line]
    for index, name in enumerate(line[0].general):
        changes = [_change(score, line[0], name) for score in line]
        axes.plot(tokens, changes, color=GENERAL[index % len(GENERAL)], linewidth=2.0, zorder=3, **DOTS)
    axes.axhline(0, color=LIMIT, linewidth=1.0)
    if results.can_forget:
        axes.axhline(results.forgetting_budget, color=LIMITED, linewidth=1.2, linestyle=DASHES)
    axes.set_ylabel("general, change", labelpad=8)
    axes.yaxis.set_major_formatter(_ticks(_signed))
    selected = results.selected
    if selected is not None and selected.kind != "base":
        _ring(axes, (selected.tokens_seen, selected.forgetting), [])


def _general_ends(results: Results, last: Score) -> list[tuple[str, float, str]]:
    """Name, height and colour of each line of the general hold-outs at its right end."""
    base = results.scores[0]
    ends = [
        (_clip(name, 18), _change(last, base, name), GENERAL[index % len(GENERAL)])
        for index, name in enumerate(base.general)
    ]
    return [*ends, *([("budget", results.forgetting_budget, LIMITED)] if results.can_forget else [])]


def _change(score: Score, base: Score, name: str) -> float:
    return score.general.get(name, math.nan) - base.general[name]


def _label_ends(axes: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Names at the lines' right ends instead of a legend, kept apart where the lines run together."""
    low, high = axes.get_ylim()
    gap = 0.105 * (high - low)
    height = -math.inf
    for name, value, color in sorted((end for end in ends if math.isfinite(end[1])), key=lambda end: end[1]):
        height = max(value, height + gap)
        axes.annotate(
            name, (1.015, height), xycoords=("axes fraction", "data"), va="center", color=color, fontsize=9.5,
            annotation_clip=False,
        )  # fmt: skip


# ------------------------------------------------------------------------------------------ gain against forgetting


def _tradeoff(results: Results) -> Figure:
    """Gain to the right, forgetting upwards; the frontier joins those that nothing beats on both."""
    figure = _card(5.6, f"{_clip(results.name, 44)}: gain against forgetting", _verdict(results))
    axes = _panel(figure, (0.105, 0.125, 0.855, 0.62))
    scores = [score for score in results.scores if _is_finite(score)]
    budget = results.forgetting_budget
    path = sorted((score for score in scores if score.kind in ("base", "checkpoint")), key=_tokens)
    axes.plot(_gains(path), _losses(path), color=DOMAIN, linewidth=1.1, linestyle=(0, (1, 2.2)), alpha=0.8, zorder=2)
    best = [scores[index] for index in frontier(scores)]
    axes.plot(_gains(best), _losses(best), color=INK, linewidth=1.5, alpha=0.4, zorder=2, label="frontier")
    for kind, (marker, color, size, label) in LOOKS.items():
        points = [score for score in scores if score.kind == kind]
        if points:
            axes.scatter(
                _gains(points), _losses(points), marker=marker, s=size, color=color, edgecolor=PAPER, linewidth=0.9,
                label=label, zorder=4,
            )  # fmt: skip
    axes.margins(x=0.07, y=0.13)
    low, high = axes.get_ylim()
    axes.set_ylim(low, max(high, budget + 0.25 * (budget - low)))
    axes.axhline(0, color=LIMIT, linewidth=1.0, zorder=1)
    axes.axvline(0, color=LIMIT, linewidth=1.0, zorder=1)
    axes.axhspan(axes.get_ylim()[0], budget, color=DOMAIN, alpha=0.06, linewidth=0, zorder=0)
    axes.axhline(budget, color=LIMITED, linewidth=1.2, linestyle=DASHES, zorder=1, label=f"budget {budget:g}")
    selected = results.selected
    if selected is not None and _is_finite(selected):
        around = list(zip(_gains(scores), _losses(scores), strict=True))
        _ring(axes, (selected.gain, selected.forgetting), around)
    _label_mixes(axes, scores)
    axes.set_xlabel("gain on the domain, bits per byte", labelpad=8)
    axes.set_ylabel("forgetting, worst general hold-out", labelpad=8)
    axes.xaxis.set_major_formatter(_ticks(_signed))
    axes.yaxis.set_major_formatter(_ticks(_signed))
    axes.legend(
        frameon=False, fontsize=9.5, loc="lower left", bbox_to_anchor=(-0.015, 1.0), ncols=6, handletextpad=0.5,
        columnspacing=1.4, borderaxespad=0.3,
    )  # fmt: skip
    return figure


# ---------------------------------------------------------------------------------------------------------- helpers


def _ring(axes: Axes, at: tuple[float, float], points: Sequence[tuple[float, float]]) -> None:
    """A ring around the selected point; and, given the points around it, its name where it hides none of them."""
    axes.scatter(*at, s=170, facecolor="none", edgecolor=SELECTED, linewidth=2.0, zorder=6, clip_on=False)
    if not points:
        return
    place = axes.transData.transform
    here = place([at])[0]
    others = [place([point])[0] for point in points]
    (left, bottom), (right, top) = axes.transAxes.transform([(0, 0), (1, 1)])

    def room(offset: tuple[int, int]) -> float:
        """Pixels between the text's middle and the nearest point; none where the text would leave the panel."""
        x, y = here[0] + offset[0] * 1.4, here[1] + offset[1] * 1.4
        if not (left + 45 < x < right - 45 and bottom + 8 < y < top - 8):
            return -1.0
        return min(math.hypot((x - ox) / 2.5, y - oy) for ox, oy in others)

    offset = max(((-50, 0), (50, 0), (0, -22), (0, 22), (-40, 20), (40, 20), (-40, -20), (40, -20)), key=room)
    axes.annotate(
        "selected", at, xytext=offset, textcoords="offset points", ha="center", va="center", fontsize=9.5, fontweight="bold",
        color=SELECTED, zorder=7,
    )  # fmt: skip


def _label_mixes(axes: Axes, scores: Sequence[Score]) -> None:
    """Each mix's share of the checkpoint: below its point, or where no other point or label is in the way."""
    points = {id(score): axes.transData.transform([(score.gain, score.forgetting)])[0] for score in scores}
    taken = list(points.values())
    pixels = axes.figure.dpi / 72

    def room(at: tuple[float, float], offset: tuple[int, int]) -> float:
        """Pixels between the label's middle and the nearest point or label, which are wider than high."""
        x, y = at[0] + offset[0] * pixels, at[1] + offset[1] * pixels
        return min(math.hypot((x - ox) / 2, y - oy) for ox, oy in taken)

    for score in scores:
        if score.alpha is None:
            continue
        at = points[id(score)]
        offset = next((one for one in LABEL_OFFSETS if room(at, one) > LABEL_ROOM), None)
        offset = offset or max(LABEL_OFFSETS, key=lambda one: room(at, one))
        taken.append((at[0] + offset[0] * pixels, at[1] + offset[1] * pixels))
        axes.annotate(
            f"{score.alpha:g}", (score.gain, score.forgetting), xytext=offset, textcoords="offset points",
            ha="center", va="center", fontsize=8.5, color=LOOKS["interpolation"][1],
        )  # fmt: skip


def _gains(scores: Sequence[Score]) -> list[float]:
    return [score.gain for score in scores]


def _losses(scores: Sequence[Score]) -> list[float]:
    return [score.forgetting for score in scores]


def _verdict(results: Results) -> str:
    selected = results.selected
    if selected is None:
        return f"base: {_clip(results.base.rstrip('/').rsplit('/', 1)[-1], 60)}"
    if selected.kind == "base":
        return "nothing that was measured is better than the base"
    where = f" on {_clip(selected.worst_general, 24)}" if selected.worst_general else ""
    forgetting = f", forgetting {selected.forgetting:+.3f}{where}" if results.can_forget else ""
    return f"selected {selected.label}: gain {selected.gain:.3f} on the domain{forgetting}, in bits per byte"


def _clip(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _tokens(score: Score) -> int:
    return score.tokens_seen


def _is_finite(score: Score) -> bool:
    return math.isfinite(score.gain) and math.isfinite(score.forgetting)


def _signed(value: float) -> str:
    return "0" if abs(value) < 1e-12 else f"{value:+.3g}"


def _ticks(spell: Callable[[float], str]) -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: spell(value))
