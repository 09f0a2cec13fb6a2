"""A place with text, and tiny jobs on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Spec = dict[str, Any]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with some text."""
    place = tmp_path_factory.mktemp("place")
    (place / "text").mkdir()
    for number in range(40):
        lines = [
            f"Kettle {number} holds {number + line} cups of tea, and tea number {line * 7} is strong.\n"
            for line in range(20)
        ]
        (place / "text" / f"{number}.txt").write_text("".join(lines))
    return place


@pytest.fixture(scope="session")
def tiny(place: Path) -> Callable[..., Spec]:
    """Values of a job that trains a model of some thousand weights from scratch."""

    def make(name: str = "tiny", *, steps: int = 60, **service: Any) -> Spec:
        config = {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 2, "max_position_embeddings": 128,
        }  # fmt: skip
        return {
            "name": name,
            "base": {"from_scratch": {"config": config, "vocab_size": 300}},
            "corpus": {"sources": [str(place / "text")], "holdout": "20%", "dedup": {"near": None}},
            "replay": "none",
            "training": {
                "budget": f"{steps} steps", "sequence_tokens": 64, "global_batch_tokens": 256, "learning_rate": 3e-3,
                "precision": "fp32",
            },
            "checkpoints": {"every": f"{steps // 3} steps", "keep_last": 2},
            "evaluation": {"max_tokens": 500, "interpolate": [], "forgetting_budget": 1.0},
            "service": service,
        }  # fmt: skip

    return make
