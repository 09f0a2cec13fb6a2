"""A tokenizer of one's own, for bases that are made from scratch: byte-level BPE, trained on the corpus.

Any text can be written with it, since every byte has a token. The same texts give the same tokenizer.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from steep.artifacts.files import full_disk_stops, sync_directory, write_atomic
from steep.spec.errors import InvalidCorpus

END_OF_TEXT = "<|endoftext|>"
MIN_VOCAB_SIZE = 257  # every byte, and the end of a text
MIN_TEXT_CHARACTERS = 10_000
PIECE_CHARACTERS = 100_000  # trainers hold whole texts: longer ones are handed over in pieces


def train_tokenizer(texts: Iterable[str], vocab_size: int, out: Path) -> None:
    """Train a tokenizer and write it as a Hugging Face directory, whole or not at all.

    Args:
        texts: what to train on.
        vocab_size: entries, `<|endoftext|>` (id 0) and the 256 bytes included; fewer when the text has no more to merge.
        out: directory to make; one that stands there is replaced.

    Raises:
        InvalidCorpus: there is too little text, or the vocabulary is too small to write every byte.
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise InvalidCorpus(
            f"{vocab_size} entries cannot write every byte",
            where="base.from_scratch.vocab_size",
            cure=f"Give it at least {MIN_VOCAB_SIZE}.",
        )
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    counted = _Counted(texts)
    tokenizer.train_from_iterator(counted.pieces(), trainer)
    if counted.characters < MIN_TEXT_CHARACTERS:
        raise InvalidCorpus(
            f"there are only {counted.characters:,} characters of text to train a tokenizer on",
            where="corpus",
            cure=f"Add text (at least {MIN_TEXT_CHARACTERS:,} characters), or give base.from_scratch.tokenizer.",
        )
    _write(tokenizer.to_str(), out)


class _Counted:
    """Texts in pieces, counted as they pass."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.characters = 0

    def pieces(self) -> Iterator[str]:
        for text in self._texts:
            self.characters += len(text)
            for start in range(0, len(text), PIECE_CHARACTERS):
                yield text[start : start + PIECE_CHARACTERS]


def _write(tokenizer: str, out: Path) -> None:
    """The files by which transformers and other programs know the tokenizer; the directory appears when it is whole."""
    staging = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with full_disk_stops(out):
        shutil.rmtree(staging, ignore_errors=True)
        write_atomic(staging / "tokenizer.json", tokenizer)
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None,
            "eos_token": END_OF_TEXT,
            "pad_token": END_OF_TEXT,
            "unk_token": None,
            "add_bos_token": False,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
        }
        write_atomic(staging / "tokenizer_config.json", json.dumps(settings, indent=1))
        roles = {"eos_token": END_OF_TEXT, "pad_token": END_OF_TEXT}
        write_atomic(staging / "special_tokens_map.json", json.dumps(roles, indent=1))
        shutil.rmtree(out, ignore_errors=True)
        staging.rename(out)
        sync_directory(out.parent)
