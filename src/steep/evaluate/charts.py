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
DPI = 200
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

    The same results give the same bytes. A chart that would show nothing but the base is left out.
    """
    trained = [score for score in results.scores if score.kind != "base" and _is_finite(score)]
    if not trained:
        return []
    import matplotlib as mpl

    out.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figures = {"holdouts": _holdouts(results), "tradeoff": _tradeoff(results)}
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
    """Bits per byte on the domain above, and below, on a scale of its own, what each general hold-out gained or lost."""
    base = results.scores[0]
    line = [base, *sorted((s for s in results.scores if s.kind == "checkpoint" and _is_finite(s)), key=_tokens)]
    tokens = [score.tokens_seen for score in line]
    figure = _card(6.4, f"{_clip(results.name, 44)}: learned and forgotten", _verdict(results))
    labels = ["domain", "budget", *(_clip(name, 18) for name in base.general)]
    width = 0.862 - min(0.2, 0.0108 * max(len(label) for label in labels) + 0.006)
    upper = _panel(figure, (0.105, 0.475, width, 0.36))
    lower = _panel(figure, (0.105, 0.1, width, 0.305), sharex=upper)
    look: dict[str, Any] = {"marker": "o", "markersize": 5, "markeredgecolor": PAPER, "clip_on": False}

    domain = [score.domain_bpb for score in line]
    upper.axhline(base.domain_bpb, color=LIMIT, linewidth=1.0)
    upper.plot(tokens, domain, color=DOMAIN, linewidth=2.4, zorder=4, **look)
    ends = []
    for index, name in enumerate(base.general):
        changes = [score.general.get(name, math.nan) - base.general[name] for score in line]
        color = GENERAL[index % len(GENERAL)]
        lower.plot(tokens, changes, color=color, linewidth=2.0, zorder=3, **look)
        ends.append((_clip(name, 18), changes[-1], color))
    lower.axhline(0, color=LIMIT, linewidth=1.0)
    lower.axhline(results.forgetting_budget, color=LIMITED, linewidth=1.2, linestyle=DASHES)
    selected = results.selected
    if selected is not None and selected.kind != "base":
        points = list(zip(tokens, domain, strict=True))
        _ring(upper, (selected.tokens_seen, selected.domain_bpb), points)
        _ring(lower, (selected.tokens_seen, selected.forgetting), [])
    for axes in (upper, lower):
        axes.margins(y=0.16)
        axes.yaxis.set_label_coords(-0.085, 0.5)
    lower.set_xlim(0, max([*tokens, selected.tokens_seen if selected else 0]) * 1.015)
    upper.tick_params(labelbottom=False)
    upper.set_ylabel("domain, bits per byte", labelpad=8)
    lower.set_ylabel("general, change", labelpad=8)
    lower.set_xlabel("tokens seen", labelpad=8)
    lower.xaxis.set_major_formatter(_ticks(format_tokens))
    lower.yaxis.set_major_formatter(_ticks(_signed))
    _label_ends(upper, [("base", base.domain_bpb, MUTED), ("domain", domain[-1], DOMAIN)])
    _label_ends(lower, [*ends, ("budget", results.forgetting_budget, LIMITED)])
    return figure


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
    for score in scores:
        if score.alpha is not None:
            axes.annotate(
                f"{score.alpha:g}", (score.gain, score.forgetting), xytext=(0, -13), textcoords="offset points",
                ha="center", va="center", fontsize=8.5, color=LOOKS["interpolation"][1],
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
    numbers = f"gain {selected.gain:.3f} on the domain, forgetting {selected.forgetting:+.3f}{where}, in bits per byte"
    return f"selected {selected.label}: {numbers}"


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
