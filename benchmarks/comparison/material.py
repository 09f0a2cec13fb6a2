"""What is measured on: real text as jsonl, a tokenizer, token shards, sequences, and weights. Made once, below `runs/bench`.

The text comes from ../shared/data; where that is not there, from the Python sources of this environment.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
PLACE = ROOT / "runs" / "bench"
FOLDERS = (
    "domain/product_docs", "domain/python_peps", "domain/world_factbook", "domain/plos_science", "general/us_speeches",
    "domain/medical_qa", "general/novels",
)  # fmt: skip
SUFFIXES = {".txt", ".md", ".mdx", ".rst", ".py", ".jsonl"}
JSONL_FILES = 4
LONGEST_CHARACTERS = 100_000
PIECE_CHARACTERS = 16_000
PARAGRAPH_CHARACTERS = 400
TRAINING_CHARACTERS = 12_000_000
VOCABULARY = 8192
EOS = "<|endoftext|>"

Text = Literal["books", "paragraphs"]


@dataclass(frozen=True)
class Shape:
    """A Llama model's shape.

    Args:
        name: of its directory.
        label: in tables.
        hidden, layers, heads, kv_heads, inner, vocabulary: as usual.
    """

    name: str
    label: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int

    def config(self, context_tokens: int) -> dict[str, object]:
        """Arguments of `LlamaConfig`; embedding and head are one."""
        return {
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.inner,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": context_tokens,
            "tie_word_embeddings": True,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }


def jsonl(num_bytes: int) -> list[Path]:
    """Files of `{"id", "text"}` lines, about `num_bytes` of text altogether."""
    folder = PLACE / f"jsonl-{num_bytes}"

    def make(out: Path) -> None:
        streams = [open(out / f"part-{n}.jsonl", "w", encoding="utf-8") for n in range(JSONL_FILES)]  # noqa: SIM115
        written = 0
        for number, (stream, text) in enumerate(zip(cycle(streams), _documents(), strict=False)):
            stream.write(json.dumps({"id": str(number), "text": text}, ensure_ascii=False) + "\n")
            written += len(text.encode())
            if written >= num_bytes:
                break
        for stream in streams:
            stream.close()

    return sorted(_once(folder, make).glob("*.jsonl"))


def gpt2_tokenizer() -> Path:
    """GPT-2's tokenizer, or where it is not there the one of `tokenizer()`."""
    given = DATA / "tokenizers" / "gpt2"
    return given if given.exists() else tokenizer()


def tokenizer() -> Path:
    """A byte-level BPE of `VOCABULARY` entries, trained on the text that is trained on; a Hugging Face directory."""

    def make(out: Path) -> None:
        from tokenizers import ByteLevelBPETokenizer
        from transformers import PreTrainedTokenizerFast

        made = ByteLevelBPETokenizer()
        made.train_from_iterator(_books(), vocab_size=VOCABULARY, special_tokens=[EOS], show_progress=False)
        PreTrainedTokenizerFast(tokenizer_object=made._tokenizer, eos_token=EOS).save_pretrained(out)

    return _once(PLACE / "tokenizer", make)


def tokens(text: Text) -> Path:
    """A token dataset.

    Args:
        text: `books`, long documents, of which hardly any sequence holds two: attention within documents saves nothing there;
            or `paragraphs`, short ones, of which most sequences hold several.
    """
    directory = tokenizer()

    def make(out: Path) -> None:
        from steep.corpus.document import Document
        from steep.corpus.tokenize import CorpusTokenizer, write_token_dataset

        texts = _books() if text == "books" else _first(_paragraphs(), TRAINING_CHARACTERS)
        documents = (Document(str(n), each, text, str(n)) for n, each in enumerate(texts))
        write_token_dataset(documents, CorpusTokenizer.load(str(directory)), out, name=text)

    return _once(PLACE / f"tokens-{text}", make)


def sequences(text: Text, sequence_tokens: int, num: int) -> Path:
    """Steep's first sequences in their order, as a file that a peer reads: `[num, sequence_tokens + 1]` ids."""
    directory = tokens(text)

    def make(out: Path) -> None:
        import numpy as np

        from comparison.sides.steep_train import data_order
        from steep.artifacts.tokens import TokenDataset
        from steep.train.loader import Sequences

        dataset = TokenDataset(directory)
        rows = Sequences({dataset.info.name: dataset}, data_order(dataset, sequence_tokens))
        np.save(out / "rows.npy", np.stack([rows.row(index) for index in range(num)]).astype(np.int32))

    return _once(PLACE / f"sequences-{text}-{sequence_tokens}-{num}", make) / "rows.npy"


def weights(shape: Shape, context_tokens: int, *, half: bool = False) -> Path:
    """A model directory with random weights, the same for every side; `half` stores them in bf16."""

    def make(out: Path) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.manual_seed(17)
        model = LlamaForCausalLM(LlamaConfig(**shape.config(context_tokens)))
        (model.bfloat16() if half else model).save_pretrained(out)

    return _once(PLACE / f"model-{shape.name}", make)


def _once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Make a folder, unless it is there whole."""
    if not folder.exists():
        unfinished = folder.with_name(folder.name + ".unfinished")
        unfinished.mkdir(parents=True, exist_ok=True)
        make(unfinished)
        unfinished.rename(folder)
    return folder


def _documents() -> Iterator[str]:
    """Texts as a corpus has them, in a stable order; what is longer than usual is cut at blank lines."""
    for text in _texts(FOLDERS):
        if len(text) <= LONGEST_CHARACTERS:
            yield text
        else:
            yield from _pieces(text, PIECE_CHARACTERS)


def _paragraphs() -> Iterator[str]:
    """Short texts, a paragraph or a few of them each."""
    return (piece for text in _texts(FOLDERS) for piece in _pieces(text, PARAGRAPH_CHARACTERS))


def _books() -> Iterator[str]:
    """Long texts: novels, or long sources."""
    texts = (text for text in _texts(("general/novels",)) if len(text) >= LONGEST_CHARACTERS)
    return _first(texts, TRAINING_CHARACTERS)


def _first(texts: Iterable[str], characters: int) -> Iterator[str]:
    size = 0
    for text in texts:
        yield text
        size += len(text)
        if size >= characters:
            return


def _texts(folders: tuple[str, ...]) -> Iterator[str]:
    if DATA.exists():
        paths = [path for folder in folders for path in sorted((DATA / folder).rglob("*"))]
    else:
        places = [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib")]
        paths = [path for place in places for path in sorted(place.rglob("*.py"))]
    for path in paths:
        if path.suffix not in SUFFIXES or path.name == "SOURCE.txt" or not path.is_file():
            continue
        content = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".jsonl":
            yield from (json.loads(line)["text"] for line in content.splitlines() if line)
        elif content.strip():
            yield content


def _pieces(text: str, least_characters: int) -> Iterator[str]:
    """A text cut at blank lines."""
    piece: list[str] = []
    size = 0
    for paragraph in text.split("\n\n"):
        piece.append(paragraph)
        size += len(paragraph)
        if size >= least_characters:
            yield "\n\n".join(piece)
            piece, size = [], 0
    if piece:
        yield "\n\n".join(piece)


def describe() -> str:
    """Where the text comes from, for the page."""
    return (
        "../shared/data" if DATA.exists() else f"the Python {sys.version_info.major}.{sys.version_info.minor} sources"
    )
