"""Text to token ids: the base model's own tokenizer, by the quickest engine that gives the same ids.

`gigatoken` encodes some fifty times faster than Hugging Face's `tokenizers`, which is what the base model was trained with
and therefore the truth. So each engine's ids are compared on the special tokens at first and then on a sample of every part
of the corpus, and one difference sends the whole corpus through `tokenizers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from steep.artifacts.tokens import TokenDatasetInfo
from steep.corpus.document import Document, text_bytes
from steep.corpus.shards import TokenDatasetWriter, frame
from steep.corpus.tokenizer_files import TokenizerFiles, find_tokenizer

Encoded = npt.NDArray[np.uint32]
Engine = Literal["gigatoken", "tokenizers"]
BATCH_BYTES = 2**20


class CorpusTokenizer:
    """The tokenizer of a base model; make it with `load`.

    Attributes:
        eos_id: ends every document.
        bos_id: begins every document; only where the tokenizer itself adds one that is not its EOS.
        vocab_size: one more than the largest id.
        fingerprint: changes when the ids it gives could.
        engine: who encodes now, "gigatoken" or "tokenizers".
        directory: where its files lie.
    """

    def __init__(self, files: TokenizerFiles, engine: Engine | None = None) -> None:
        self.directory: Path = files.directory
        self.eos_id, self.bos_id = files.eos_id, files.bos_id
        self.vocab_size, self.fingerprint = files.vocab_size, files.fingerprint
        self._truth = files.tokenizer
        self._special = files.special
        self._quick: Any = None
        if engine != "tokenizers":
            self._quick = _quick_engine(files.content)
        if self._quick is not None and engine is None:
            self.verify(_special_samples(self._special))

    @classmethod
    def load(cls, model: str, engine: Engine | None = None) -> CorpusTokenizer:
        """The tokenizer in a directory, or of a hub id `org/name[@revision]`.

        Args:
            model: directory or hub id with `tokenizer.json`.
            engine: use this one without a check; by default the quickest whose ids are right on the special tokens.

        Raises:
            InvalidModel: it is not there, cannot be read, or names no end-of-text token.
        """
        return cls(find_tokenizer(model), engine)

    @property
    def engine(self) -> Engine:
        """Who encodes now."""
        return "tokenizers" if self._quick is None else "gigatoken"

    def encode_batch(self, texts: list[str]) -> list[Encoded]:
        """Token ids of each text, without BOS and EOS; added tokens that stand in a text become their ids."""
        if self._quick is None:
            return self._encode_truly(texts)
        return [self._quick.encode(text) for text in texts]

    def agrees(self, sample: list[str]) -> bool:
        """Whether the engine in use gives the ids of Hugging Face's `tokenizers` on these texts."""
        if self._quick is None:
            return True
        truth = self._encode_truly(sample)
        return all(np.array_equal(self._quick.encode(text), ids) for text, ids in zip(sample, truth, strict=True))

    def verify(self, sample: list[str]) -> None:
        """Go over to `tokenizers` for good unless the quick engine's ids are the same on these texts."""
        if not self.agrees(sample):
            self._quick = None

    def writer(self, out: Path, *, name: str, keep_texts: bool = False) -> TokenDatasetWriter:
        """A writer of a dataset of this tokenizer's ids."""
        return TokenDatasetWriter(
            out,
            name=name,
            vocab_size=self.vocab_size,
            eos_id=self.eos_id,
            bos_id=self.bos_id,
            tokenizer_fingerprint=self.fingerprint,
            keep_texts=keep_texts,
        )

    def encode_framed(self, texts: list[str]) -> tuple[Encoded, npt.NDArray[np.int64]]:
        """Texts as one row of ids, each a whole document, with lengths as `TokenDatasetWriter.append` takes them."""
        sizes = [text_bytes(text) for text in texts]
        return frame(self.encode_batch(texts), sizes, eos_id=self.eos_id, bos_id=self.bos_id)

    def _encode_truly(self, texts: list[str]) -> list[Encoded]:
        encodings = self._truth.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]


def write_token_dataset(
    documents: Iterable[Document], tokenizer: CorpusTokenizer, out: Path, *, name: str, keep_texts: bool = False
) -> TokenDatasetInfo:
    """Tokenize documents into a token dataset; memory holds about one megabyte of them (and one shard's texts, if kept)."""
    writer = tokenizer.writer(out, name=name, keep_texts=keep_texts)
    for batch in batched((document.text for document in documents), BATCH_BYTES):
        ids, lengths = tokenizer.encode_framed(batch)
        writer.append(ids, lengths, batch if keep_texts else None)
    return writer.finish()


def batched(texts: Iterable[str], max_bytes: int) -> Iterator[list[str]]:
    """Texts in lists of about `max_bytes` characters, in their order; a longer text stands alone."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > max_bytes:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def _quick_engine(content: bytes) -> Any:
    """The quick engine for this tokenizer, or nothing where it does not know the kind."""
    try:
        import gigatoken

        return gigatoken.Tokenizer.from_json(content).backend
    except Exception:  # noqa: BLE001 - it raises many types, and any of them means: not this tokenizer
        return None


def _special_samples(special: list[str]) -> list[str]:
    """Texts that hold each added token alone, doubled, and with neighbours of every kind; and awkward plain text."""
    plain = [
        "",
        " ",
        "a",
        "\n",
        "\r\n\t",
        "  two  spaces ",
        "naïve café 日本語 😀",
        "\u00a0\u2028\ufeff",
        "x" * 300,
        "don't 12345",
    ]
    return plain + [form.format(token) for token in special for form in ("{0}", "a{0}b", " {0} ", "{0}{0}\n", "1 {0}.")]
