"""A base of some thousand weights, and a job order that many tests begin with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Order = dict[str, Any]

METHOD = "continued_pretraining"
STEPS = 60


@pytest.fixture(scope="session")
def little_base(place: Path) -> Path:
    """A model with random weights and a tokenizer of the place's text, where jobs may read it."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    directory = place / "little-base"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(path) for path in sorted((place / "text").glob("*.txt"))], trainer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, bos_token_id=0, eos_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


@pytest.fixture(scope="session")
def order() -> Callable[..., Order]:
    """Arguments of `fine_tuning.jobs.create` for a short job, on the base that comes with Steep unless told otherwise."""

    def make(file: str, *, method: Order | None = None, **others: Any) -> Order:
        own: Order = {
            "budget": f"{STEPS} steps",
            "replay": "none",
            "training": {
                "sequence_tokens": 64, "global_batch_tokens": 256, "learning_rate": 3e-3, "precision": "fp32",
            },
            "checkpoints": {"every": f"{STEPS // 3} steps"},
            "evaluation": {"max_tokens": 500, "interpolate": [], "forgetting_budget": 10.0},
            "corpus": {"holdout": "20%", "dedup": {"near": None}},
        }  # fmt: skip
        return {
            "model": "tiny-base",
            "training_file": file,
            "method": {"type": METHOD, METHOD: own if method is None else method},
            **others,
        }

    return make
