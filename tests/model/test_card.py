"""The model card says what was measured, in a form that the hub reads."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from steep.model.card import CardFacts, CardSource, model_card
from steep.model.files import named_license
from steep.spec.results import Results, Score

BASE = Score(
    kind="base", step=0, tokens_seen=0, domain_bpb=3.4, general_bpb=1.6, gain=0, forgetting=0,
    domain={"peps": 3.4}, general={"novels": 1.5, "self": 1.7}, tasks={"arc_easy": {"acc": 0.25}},
)  # fmt: skip
ROW = Score(
    kind="checkpoint", step=40, tokens_seen=2_000_000, domain_bpb=1.9, general_bpb=1.63, gain=1.5, forgetting=0.041,
    worst_general="novels", domain={"peps": 1.9}, general={"novels": 1.541, "self": 1.72},
    tasks={"arc_easy": {"acc": 0.5}}, selected=True,
)  # fmt: skip
FACTS = CardFacts(
    name="python-peps",
    base="org/tiny: base",
    results=Results(
        name="python-peps", base="org/tiny", forgetting_budget=0.05, scores=(BASE, ROW), selection_reason="most gain."
    ),
    row=ROW,
    sources=(CardSource("peps | all", 700, 1_800_000, 5_400_000, 0.9), CardSource("self", 90, 200_000, 700_000, 0.1)),
    recipe=(("learning rate", "0.001", "by size"),),
    base_license="apache-2.0",
    tags=("docs",),
    charts=(("charts/holdouts.png", "Hold-outs over tokens"),),
    lineage=("org/tiny", "step 40 of python-peps"),
    version="0.1",
)


def head(card: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(card.split("---")[1])
    return found


def test_the_head_is_what_the_hub_reads() -> None:
    assert head(model_card(FACTS)) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": "org/tiny: base",
        "license": "apache-2.0",
        "tags": ["continued-pretraining", "steep", "docs"],
    }


@pytest.mark.parametrize(
    "line",
    [
        "# python-peps",
        "`org/tiny: base` after continued pretraining on 2M tokens",
        "1.900 bits per byte, 1.500 less than before",
        "forgot +0.041 bits per byte at worst (novels)",
        "| peps (domain) | 3.400 | 1.900 | -1.500 |",
        "| novels (general) | 1.500 | 1.541 | +0.041 |",
        "| arc_easy | acc | 0.25 | 0.5 |",
        "Chosen among 2 candidates: most gain.",
        "![Hold-outs over tokens](charts/holdouts.png)",
        r"| peps \| all | 700 | 1.8M | 5.4 MB | 90 % |",
        "| learning rate | 0.001 | by size |",
        "- step 40 of python-peps",
        "Made with Steep 0.1.",
        "The base model's licence, which holds for this model too: `apache-2.0`",
    ],
)
def test_everything_measured_stands_there(line: str) -> None:
    assert line in model_card(FACTS)


def test_a_mix_says_so() -> None:
    row = ROW.model_copy(update={"kind": "interpolation", "alpha": 0.7})
    assert "0.7 of checkpoint 40 and 0.3 of the base" in model_card(replace(FACTS, row=row))


def test_a_gain_that_was_not_measured_is_no_number() -> None:
    row = ROW.model_copy(update={"domain_bpb": math.nan, "gain": math.nan, "domain": {}})
    card = model_card(replace(FACTS, row=row))
    assert "What it gained on text of its domain was not measured." in card
    assert "nan" not in card


def test_a_model_from_random_weights_has_no_base() -> None:
    card = model_card(replace(FACTS, base=None, base_license=None))
    assert "base_model" not in head(card)
    assert "license" not in head(card)
    assert "pretrained from random weights on 2M tokens" in card
    assert "| random weights |" in card


def test_an_unknown_licence_is_said_to_be_unknown() -> None:
    card = model_card(replace(FACTS, base_license=None))
    assert "license" not in head(card)
    assert "look it up" in card


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("---\nlicense: mit\n---\n# Model", "mit"),
        ("---\ntags: [a]\n---\n", None),
        ("# no head\n---\nlicense: mit\n---", None),
        ("---\n: [\n---\n", None),
        (None, None),
    ],
)
def test_the_licence_of_a_base_is_read_from_its_card(text: str | None, found: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "README.md").write_text(text)
    assert named_license(tmp_path) == found
