"""Third pass over a corpus: what is kept becomes token ids, and what is not becomes a drop; part by part, over the processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steep.artifacts.files import hash_text
from steep.artifacts.pieces import cut_pieces
from steep.corpus import copies, decontaminate
from steep.corpus.columns import read_arrays, write_arrays
from steep.corpus.copies import Fate, Fates
from steep.corpus.document import Drop, drop
from steep.corpus.parts import Part, write_drops
from steep.corpus.shards import dtype_name
from steep.corpus.split import cut_out, piece_keys
from steep.corpus.tokenize import BATCH_BYTES, CorpusTokenizer, Engine, batched

_SAMPLED_TEXTS = 24  # of each part, on which the engines are compared
_SAMPLED_CHARACTERS = 2000
DROPPED = {
    Fate.EXACT_COPY: (copies.STEP, "exact_copy"),
    Fate.NEAR_COPY: (copies.STEP, "near_copy"),
    Fate.EVALUATION_TEXT: (decontaminate.STEP, decontaminate.REASON),
}


@dataclass(frozen=True, slots=True)
class EncodeTask:
    """A part to encode.

    Attributes:
        part: where its texts lie.
        source: name of its source.
        fates: what becomes of each document.
        limit: pieces with a key up to this are held out and left out here; None when documents stay whole.
        tokenizer: directory or hub id.
        engine: which encodes.
        out: directory for the result.
    """

    part: Part
    source: str
    fates: Fates
    limit: int | None
    tokenizer: str
    engine: Engine
    out: Path

    @property
    def stem(self) -> str:
        """Name of the result: of all that decides it."""
        facts = (str(self.part.directory.name), str(self.part.number), self.fates.tobytes().hex(), str(self.limit))
        return hash_text("encode-1", *facts, load_tokenizer(self.tokenizer, self.engine).fingerprint, self.engine)[:32]


@dataclass(frozen=True, slots=True)
class EncodedPart:
    """The result on disk: `ids` of the documents, framed, their `lengths`, and `drops`."""

    directory: Path
    stem: str
    agrees: bool

    def arrays(self) -> tuple[Any, Any]:
        """The ids and the lengths, as `TokenDatasetWriter.append` takes them."""
        stored = read_arrays(self.directory / f"{self.stem}.safetensors", "ids", "lengths")
        return stored["ids"], stored["lengths"]

    @property
    def drops_file(self) -> Path:
        """Where its drops lie, if there are any."""
        return self.directory / f"{self.stem}.arrow"


def encode_part(task: EncodeTask) -> EncodedPart:
    """Encode one part; says whether the engine's ids were those of Hugging Face's on a sample of it."""
    tokenizer = load_tokenizer(task.tokenizer, task.engine)
    stem = task.stem
    path = task.out / f"{stem}.safetensors"
    if path.exists():
        return EncodedPart(task.out, stem, True)
    texts = list(_trained_texts(task))
    if not tokenizer.agrees(_sample(texts)):
        return EncodedPart(task.out, stem, False)
    drops = _drops(task)
    if drops:
        write_drops(task.out / f"{stem}.arrow", drops)
    encoded = [tokenizer.encode_framed(batch) for batch in batched(texts, BATCH_BYTES)]
    dtype = np.dtype(dtype_name(tokenizer.vocab_size))
    ids = np.concatenate([np.zeros(0, dtype), *(ids.astype(dtype) for ids, _ in encoded)])
    lengths = np.concatenate([np.zeros((0, 2), np.int64), *(lengths for _, lengths in encoded)])
    write_arrays(path, {"ids": ids, "lengths": lengths})
    return EncodedPart(task.out, stem, True)


def _trained_texts(task: EncodeTask) -> Iterator[str]:
    for _, text in task.part.texts(task.fates == Fate.TRAIN):
        if task.limit is None:
            yield text
        else:
            yield from cut_out(text, piece_keys(cut_pieces(text)) <= np.uint64(task.limit))[0]


def _drops(task: EncodeTask) -> list[Drop]:
    wanted = task.fates > Fate.HOLDOUT
    if not wanted.any():
        return []
    found = task.part.documents(task.source, wanted)
    return [drop(document, *DROPPED[Fate(int(task.fates[number]))]) for number, document in found]


def _sample(texts: Sequence[str]) -> list[str]:
    """The beginnings of some texts, taken at equal distances."""
    return [text[:_SAMPLED_CHARACTERS] for text in texts[:: max(1, -(-len(texts) // _SAMPLED_TEXTS))]]


def load_tokenizer(model: str, engine: Engine) -> CorpusTokenizer:
    """The tokenizer with this engine, loaded once in each process."""
    known = _LOADED.get(model)
    if known is None or known.engine != engine:
        known = _LOADED[model] = CorpusTokenizer.load(model, engine)
    return known


def get_ready(model: str) -> None:
    """Load in this process what encoding a part will need, most likely."""
    load_tokenizer(model, "gigatoken")


def lend_tokenizer(model: str, tokenizer: CorpusTokenizer) -> None:
    """Let parts that are encoded in this process use a tokenizer that is loaded already."""
    _LOADED.clear()
    _LOADED[model] = tokenizer


_LOADED: dict[str, CorpusTokenizer] = {}
