"""Token datasets: documents as token ids on disk, memory-mapped.

    DATASET/
      manifest.json            see `TokenDatasetInfo`
      tokens-00000.bin ...     little-endian uint16 or uint32, documents one after another
      documents-00000.npy ...  int64 [num_docs, 2]: (tokens, bytes of text) of each document in that shard
      texts-00000.parquet      hold-outs only: column `text`, so that any model can be scored on them

A document is `[BOS] ids EOS`; BOS stands there only when the tokenizer adds one that is not its EOS.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from steep.spec.errors import DamagedArtifact

Ids = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


class ShardInfo(BaseModel):
    """One token shard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int
    documents: int
    text_bytes: int
    blake3: str


class TokenDatasetInfo(BaseModel):
    """The manifest: written last, so a dataset exists when it does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    fingerprint: str
    tokenizer_fingerprint: str
    dtype: Literal["uint16", "uint32"]
    vocab_size: int
    eos_id: int
    bos_id: int | None
    shards: tuple[ShardInfo, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all shards, EOS and BOS included."""
        return sum(shard.tokens for shard in self.shards)

    @property
    def texts(self) -> Iterator[str]:
        """The documents' texts, in order; only hold-outs keep them, and nothing comes of other datasets."""
        import pyarrow.parquet as pq

        for path in sorted(self.path.glob("texts-*.parquet")):
            for batch in pq.ParquetFile(path).iter_batches(columns=["text"]):
                yield from batch.column("text").to_pylist()

    def documents(self) -> int:
        """Documents of all shards."""
        return sum(shard.documents for shard in self.shards)

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the text behind the tokens."""
        return sum(shard.text_bytes for shard in self.shards)


class TokenDataset:
    """A token dataset opened for reading; random access to any span, O(1) memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        manifest = path / "manifest.json"
        if not manifest.exists():
            raise DamagedArtifact("holds no token dataset", where=str(path), cure="Run the prepare stage again.")
        self.info = TokenDatasetInfo.model_validate_json(manifest.read_bytes())
        dtype = np.dtype(self.info.dtype).newbyteorder("<")
        self._shards = [
            np.memmap(path / f"tokens-{index:05d}.bin", dtype=dtype, mode="r", shape=(shard.tokens,))
            for index, shard in enumerate(self.info.shards)
        ]
        self._starts = np.concatenate([[0], np.cumsum([shard.tokens for shard in self.info.shards])]).astype(np.int64)

    def __len__(self) -> int:
        """Tokens in the dataset."""
        return int(self._starts[-1])

    def read(self, start: int, length: int) -> npt.NDArray[np.int64]:
        """`length` token ids from position `start` of the whole stream, which goes round at its end."""
        total = len(self)
        out = np.empty(length, dtype=np.int64)
        filled, position = 0, start % total
        while filled < length:
            shard = int(np.searchsorted(self._starts, position, side="right")) - 1
            offset = position - int(self._starts[shard])
            part = self._shards[shard][offset : offset + length - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            position = (position + len(part)) % total
        return out

    def texts(self) -> Iterator[str]:
        """The documents' texts, in order; only hold-outs keep them, and nothing comes of other datasets."""
        import pyarrow.parquet as pq

        for path in sorted(self.path.glob("texts-*.parquet")):
            for batch in pq.ParquetFile(path).iter_batches(columns=["text"]):
                yield from batch.column("text").to_pylist()

    def documents(self) -> npt.NDArray[np.int64]:
        """`[num_docs, 2]`: tokens and text bytes of each document, in order."""
        parts = [np.load(self.path / f"documents-{i:05d}.npy") for i in range(len(self.info.shards))]
        return np.concatenate(parts) if parts else np.zeros((0, 2), dtype=np.int64)
