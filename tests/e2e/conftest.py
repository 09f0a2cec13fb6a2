"""Whole jobs as users run them: `steep` and its worker in processes of their own, on real text, with a tiny base."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from steep.cli import pythontext

STEEP = Path(sys.executable).with_name("steep")
Steep = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus (`text/`), general text (`general/`) and a base (`base/`)."""
    place = tmp_path_factory.mktemp("a place")
    pythontext.gather(place / "all")
    (place / "general").mkdir()
    for path in sorted((place / "all" / "reference").glob("*.txt"))[:20]:
        path.rename(place / "general" / path.name)
    (place / "text").mkdir()
    for path in sorted((place / "all" / "docstrings").glob("*.txt"))[:80]:
        path.rename(place / "text" / path.name)
    shutil.rmtree(place / "all")
    make_base(place / "base", [path.read_text(encoding="utf-8") for path in (place / "general").iterdir()])
    return place


def make_base(directory: Path, texts: list[str], *, context: int = 256) -> None:
    """A Llama with random weights and a tokenizer of its own."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=768, special_tokens=["<|endoftext|>"], show_progress=False)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, eos_token="<|endoftext|>")
    torch.manual_seed(17)
    config = LlamaConfig(
        vocab_size=768, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=context, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    fast.save_pretrained(directory)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What outlives a run: text sampled from the base, once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def environment(cache: Path) -> dict[str, str]:
    """Two threads whatever the machine, so that results are the same; a cache of our own."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "STEEP_CACHE": str(cache), "COLUMNS": "120"}


@pytest.fixture
def steep(tmp_path: Path, environment: dict[str, str]) -> Steep:
    """Call `steep` and wait for it."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [STEEP, *map(str, arguments)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    return call


@pytest.fixture
def make_job(place: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a job file; keyword arguments set fields, `a__b` for a field of a part."""

    def make(name: str = "job", **settings: Any) -> Path:
        spec: dict[str, Any] = {
            "name": name,
            "base": str(place / "base"),
            "corpus": {"sources": [str(place / "text")], "holdout": "10%"},
            "replay": {"source": str(place / "general"), "share": "20%"},
            "training": {
                "budget": "24 steps", "sequence_tokens": 128, "global_batch_tokens": 512, "learning_rate": 3e-3,
            },
            "checkpoints": {"every": "6 steps", "keep_last": 2},
            "evaluation": {"max_tokens": 2000, "interpolate": [0.5], "forgetting_budget": 1.0},
        }  # fmt: skip
        for key, value in settings.items():
            node = spec
            *parents, last = key.split("__")
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = value
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(spec), encoding="utf-8")
        return path

    return make


def reports(run: Path) -> list[dict[str, Any]]:
    """What the worker of a run has said so far; it may be in the middle of a line."""
    path = run / "reports.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def results(run: Path) -> dict[str, Any]:
    """`results.json` of a run."""
    answer: dict[str, Any] = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return answer
