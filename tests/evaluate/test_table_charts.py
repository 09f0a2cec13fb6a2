"""Table and charts of a run's results."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from steep.evaluate.charts import _holdouts, _tradeoff, _verdict, draw
from steep.evaluate.table import markdown, plain, rows
from steep.spec.results import Results, Score


def score(kind: Any, step: int, gain: float, forgetting: float, **more: Any) -> Score:
    general = {"novels": 2.0 + forgetting, "masc": 2.4 - 0.1 * step / 100}
    return Score(
        kind=kind, step=step, tokens_seen=step * 4096, domain_bpb=3.29 - gain, general_bpb=2.2, gain=gain,
        forgetting=forgetting, worst_general="" if kind == "base" else "novels", domain={"peps": 3.29 - gain},
        general=general, **more,
    )  # fmt: skip


@pytest.fixture
def results() -> Results:
    return Results(
        name="python-peps",
        base="models/novels-5M",
        forgetting_budget=0.02,
        scores=(
            score("base", 0, 0.0, 0.0, tasks={"peps": {"acc": 0.25}}),
            score("checkpoint", 50, 0.9, 0.05),
            score("checkpoint", 100, 1.55, 0.018, selected=True, tasks={"peps": {"acc": 0.5}}),
            score("interpolation", 100, 1.2, 0.01, alpha=0.7),
        ),
    )


def test_markdown_names_every_model_and_marks_the_selected(results: Results) -> None:
    lines = markdown(results).splitlines()
    assert len(lines) == 2 + 4
    assert all(line.count("|") == lines[0].count("|") for line in lines)
    assert "peps acc" in lines[0]
    assert lines[4].startswith("| **step 100** | **410k** | **1.740** | **+1.550** |")
    assert "**selected**" in lines[4]
    assert sum("selected" in line for line in lines) == 1


def test_plain_columns_are_aligned(results: Results) -> None:
    lines = plain(results, everything=False).splitlines()
    assert len(lines) == 4
    assert "base" in lines[2]
    assert "step 100" in lines[3]
    assert lines[2].index("3.290") == lines[3].index("1.740")


def test_rows_of_base_and_selected_only(results: Results) -> None:
    assert [cells[0] for cells in rows(results, everything=False)] == ["base", "step 100"]


def test_charts_are_drawn_alike_twice(results: Results, tmp_path: Path) -> None:
    first, second = draw(results, tmp_path / "a"), draw(results, tmp_path / "b")
    assert [path.name for path in first] == ["holdouts.png", "holdouts.svg", "tradeoff.png", "tradeoff.svg"]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
        if one.suffix == ".png":
            assert one.read_bytes().startswith(b"\x89PNG")
        else:
            assert ElementTree.fromstring(one.read_text()).tag.endswith("svg")


def test_without_general_text_there_is_one_panel_and_no_trade_off(results: Results, tmp_path: Path) -> None:
    draw(results, tmp_path)
    alone = [row.model_copy(update={"general": {}, "worst_general": "", "forgetting": 0.0}) for row in results.scores]
    domain_only = results.model_copy(update={"scores": tuple(alone)})
    assert sorted(path.name for path in draw(domain_only, tmp_path)) == ["holdouts.png", "holdouts.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holdouts.png", "holdouts.svg"]
    assert len(_holdouts(domain_only).axes) == 1
    assert len(_holdouts(results).axes) == 2
    assert "forgetting" not in _verdict(domain_only)


def test_a_new_model_has_no_budget_line(results: Results, tmp_path: Path) -> None:
    made = results.model_copy(update={"base": "from scratch"})
    assert [path.name for path in draw(made, tmp_path)] == ["holdouts.png", "holdouts.svg"]
    words = [text.get_text() for text in _holdouts(made).axes[1].texts]
    assert words == ["masc", "novels"]
    assert "budget" in [text.get_text() for text in _holdouts(results).axes[1].texts]


def test_the_card_is_opaque_so_that_dark_pages_do_not_show_through(results: Results, tmp_path: Path) -> None:
    import matplotlib.image

    pixels = matplotlib.image.imread(draw(results, tmp_path)[0])
    assert pixels.shape[2] == 3 or bool((pixels[..., 3] == 1).all())


def test_odd_results_are_drawn_too(results: Results, tmp_path: Path) -> None:
    broken = score("checkpoint", 150, math.nan, math.nan)
    unselected = tuple(row.model_copy(update={"selected": False}) for row in results.scores)
    for number, scores in enumerate([(*results.scores, broken), unselected, unselected[:2]]):
        odd = results.model_copy(update={"scores": scores, "forgetting_budget": 0.0, "name": "n" * 100})
        assert len(draw(odd, tmp_path / str(number))) == 4


def test_nothing_to_draw(results: Results, tmp_path: Path) -> None:
    assert draw(results.model_copy(update={"scores": results.scores[:1]}), tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_labels_of_mixes_that_lie_close_can_both_be_read(results: Results) -> None:
    near = [score("interpolation", 100, 1.2 + 0.01 * n, 0.01 + 0.002 * n, alpha=0.7 + 0.02 * n) for n in range(1, 3)]
    figure = _tradeoff(results.model_copy(update={"scores": (*results.scores, *near)}))
    figure.canvas.draw()
    labels = [text for text in figure.axes[0].texts if text.get_text().startswith("0.7")]
    boxes = [label.get_window_extent() for label in labels]
    assert len(boxes) == 3
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
