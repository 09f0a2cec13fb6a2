"""Real text and a real tokenizer of it: Python's own language reference, and a byte-level BPE of few entries."""

from __future__ import annotations

import json
from pathlib import Path
from pydoc_data import topics

import numpy as np
import pytest
from tests.model.families import VOCAB
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from steep.artifacts.tokens import TokenDataset
from steep.corpus.shards import TokenDatasetWriter, frame

TEXT_VOCAB = 320


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """A dozen pages of a few kB."""
    return [text for _, text in sorted(topics.topics.items()) if 2000 < len(text) < 6000][:12]


@pytest.fixture(scope="session")
def tokenizer_dir(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer as a base model has it; EOS is id 0, and there is no BOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TEXT_VOCAB,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


@pytest.fixture(scope="session")
def id_dataset(tmp_path_factory: pytest.TempPathFactory) -> TokenDataset:
    """Random ids of the tiny families, as a hold-out; a byte and a half of text stands for each."""
    rng = np.random.default_rng(3)
    pieces = [rng.integers(2, VOCAB, length).astype(np.uint32) for length in (30, 7, 1, 65, 12)]
    path = tmp_path_factory.mktemp("ids")
    write_ids(path, pieces, bos_id=None)
    return TokenDataset(path)


def write_ids(path: Path, pieces: list[np.ndarray], *, bos_id: int | None) -> None:
    """A token dataset of pieces of ids."""
    writer = TokenDatasetWriter(
        path, name="ids", vocab_size=VOCAB, eos_id=0, bos_id=bos_id, tokenizer_fingerprint="test"
    )
    writer.append(*frame(pieces, [len(ids) * 3 // 2 for ids in pieces], eos_id=0, bos_id=bos_id))
    writer.finish()
