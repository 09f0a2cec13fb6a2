"""A tiny base on disk, and real text as token datasets: Python's own language reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pydoc_data import topics
from typing import Any

import numpy as np
import pytest
import torch
from blake3 import blake3
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.tokens import ShardInfo, TokenDataset, TokenDatasetInfo
from steep.corpus.order import DataOrder, Stream
from steep.train.schedule import Schedule
from steep.train.setup import TrainingSetup

EOS = 0
VOCAB = 512
SEQUENCE_TOKENS = 64


@pytest.fixture(scope="session")
def documents() -> list[np.ndarray]:
    """The longer paragraphs of Python's reference, tokenized, each ending with EOS."""
    paragraphs = [paragraph for text in topics.topics.values() for paragraph in text.split("\n\n")]
    texts = [paragraph for paragraph in paragraphs if len(paragraph) >= 200]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return [np.array([*tokenizer.encode(text).ids, EOS], dtype=np.uint16) for text in texts]


def write_dataset(path: Path, name: str, documents: list[np.ndarray]) -> TokenDataset:
    """A token dataset of one shard."""
    path.mkdir(parents=True)
    tokens = np.concatenate(documents)
    tokens.tofile(path / "tokens-00000.bin")
    np.save(path / "documents-00000.npy", np.array([[len(ids), len(ids)] for ids in documents], dtype=np.int64))
    digest = blake3(tokens.tobytes()).hexdigest()
    info = TokenDatasetInfo(
        name=name,
        fingerprint=digest,
        tokenizer_fingerprint="test",
        dtype="uint16",
        vocab_size=VOCAB,
        eos_id=EOS,
        bos_id=None,
        shards=(ShardInfo(tokens=len(tokens), documents=len(documents), text_bytes=len(tokens), blake3=digest),),
    )
    (path / "manifest.json").write_text(info.model_dump_json())
    return TokenDataset(path)


@pytest.fixture(scope="session")
def datasets(documents: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenDataset]:
    """Two streams of the text: a corpus and what is replayed."""
    root = tmp_path_factory.mktemp("datasets")
    return {
        "corpus": write_dataset(root / "corpus", "corpus", documents[::2]),
        "replay": write_dataset(root / "replay", "replay", documents[1::2]),
    }


def order_of(datasets: dict[str, TokenDataset], sequence_tokens: int = SEQUENCE_TOKENS) -> DataOrder:
    """Three quarters corpus, one quarter replay."""
    weights = {"corpus": 0.75, "replay": 0.25}
    streams = [Stream(name, len(data), weights[name], data.info.fingerprint) for name, data in datasets.items()]
    return DataOrder(streams, sequence_tokens=sequence_tokens, seed=5)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 0.1M parameters with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCAB,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        attention_dropout=0.0,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    return path


MakeSetup = Callable[..., TrainingSetup]


@pytest.fixture
def make_setup(base: Path, datasets: dict[str, TokenDataset], tmp_path: Path) -> MakeSetup:
    """Setups of short runs; keyword arguments change what they say."""

    from steep.model.load import load_model

    def make(directory: str = "checkpoints", **changes: Any) -> TrainingSetup:
        values: dict[str, Any] = {
            "load_model": lambda: load_model(str(base)),
            "device": torch.device("cpu"),
            "datasets": datasets,
            "order": order_of(datasets),
            "sequences_per_step": 4,
            "microbatch_sequences": 4,
            "schedule": Schedule(3e-3, 20, warmup_steps=3, decay_steps=5),
            "checkpoints": CheckpointCatalog(tmp_path / directory),
            "spec_fingerprint": "spec",
            "precision": "fp32",
            "compile": False,
        }
        return TrainingSetup(**{**values, **changes})

    return make
