"""What is asked of the model room, and what is made of its answers. Its own tests prove the numbers."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from steep.evaluate.holdouts import measure
from steep.evaluate.prompts import continuations, side_by_side
from steep.spec.results import Completion


@dataclass
class Dataset:
    bpb: float
    text_bytes: int


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def score_dataset(model: str, dataset: Dataset, *, max_tokens: int, context: int) -> Any:
        calls.append((model, max_tokens, context))
        return SimpleNamespace(bpb=dataset.bpb, text_bytes=dataset.text_bytes)

    def complete(model: str, tokenizer_dir: str, prompts: list[str], max_new_tokens: int) -> list[str]:
        calls.append((model, tokenizer_dir, max_new_tokens))
        return [prompt.upper() for prompt in prompts]

    monkeypatch.setitem(sys.modules, "steep.model.score", SimpleNamespace(score_dataset=score_dataset))
    monkeypatch.setitem(sys.modules, "steep.model.generate", SimpleNamespace(complete=complete))
    return calls


def test_every_holdout_is_scored_under_the_same_terms(asked: list[Any]) -> None:
    told: list[tuple[str, float, float | None]] = []
    domain: Any = {"peps": Dataset(3.0, 3000), "docs": Dataset(2.0, 1000)}
    general: Any = {"novels": Dataset(2.1, 500)}
    found = measure(
        "model", domain, general, max_tokens=900, context=512, progress=lambda *said: told.append(said)  # type: ignore[arg-type]
    )  # fmt: skip
    assert asked == [("model", 900, 512)] * 3
    assert (found.domain, found.general) == ({"peps": 3.0, "docs": 2.0}, {"novels": 2.1})
    assert (found.domain_bytes, found.general_bytes) == ({"peps": 3000, "docs": 1000}, {"novels": 500})
    assert found.domain_bpb == pytest.approx(2.75)
    assert [done for _, done, _ in told] == [0, 1, 2, 3]
    assert {total for _, _, total in told} == {3}


def test_prompts_side_by_side(asked: list[Any]) -> None:
    before = continuations("base", "tokenizer", ["a decorator is"])  # type: ignore[arg-type]
    assert asked == [("base", "tokenizer", 64)]
    assert side_by_side(["a decorator is"], before, ["a function"]) == (
        Completion(prompt="a decorator is", base="A DECORATOR IS", selected="a function"),
    )


def test_without_prompts_the_model_is_not_asked(asked: list[Any]) -> None:
    assert continuations("base", "tokenizer", []) == []  # type: ignore[arg-type]
    assert asked == []


def test_a_missing_completion_is_not_passed_over() -> None:
    with pytest.raises(ValueError, match="shorter"):
        side_by_side(["one", "two"], ["a"], ["b", "c"])
