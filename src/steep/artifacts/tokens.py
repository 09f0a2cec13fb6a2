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
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, ValidationError

from steep.spec.errors import DamagedArtifact

_VERIFY_TOKENS = 1 << 22  # at once, so that large shards cost no memory

Ids = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


class ShardInfo(BaseModel):
    """One token shard; `blake3` covers its tokens, then the bytes of its documents' int64 rows."""

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
    def token_bytes(self) -> int:
        """Bytes that the tokens take on disk."""
        return self.tokens * np.dtype(self.dtype).itemsize

    @property
    def documents(self) -> int:
        """Documents of all shards."""
        return sum(shard.documents for shard in self.shards)

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the text behind the tokens."""
        return sum(shard.text_bytes for shard in self.shards)


class TokenDataset:
    """A token dataset opened for reading; random access to any span, O(1) memory.

    Raises:
        DamagedArtifact: there is none, or a file of it is missing or has another size than its manifest says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        manifest = path / "manifest.json"
        if not manifest.exists():
            raise _damaged("holds no token dataset", path)
        try:
            self.info = TokenDatasetInfo.model_validate_json(manifest.read_bytes())
        except ValidationError as error:
            raise _damaged("is not the manifest of a token dataset", manifest) from error
        self._shards = [self._map(index, shard) for index, shard in enumerate(self.info.shards)]
        self._starts = np.concatenate([[0], np.cumsum([shard.tokens for shard in self.info.shards])]).astype(np.int64)

    def __len__(self) -> int:
        """Tokens in the dataset."""
        return int(self._starts[-1])

    def read(self, start: int, length: int) -> npt.NDArray[np.int64]:
        """`length` token ids from position `start` of the whole stream, which goes round at its end.

        A dataset without tokens has no stream: it must not be read from.
        """
        total = len(self)
        assert total > 0, f"{self.path} holds no tokens"
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
        parts = [self._rows(index) for index in range(len(self.info.shards))]
        return np.concatenate(parts) if parts else np.zeros((0, 2), dtype=np.int64)

    def verify(self) -> None:
        """Read every token and every document's row, and compare with the manifest's hashes.

        Raises:
            DamagedArtifact: names the shard whose bytes are wrong.
        """
        for index, (shard, tokens) in enumerate(zip(self.info.shards, self._shards, strict=True)):
            hasher = blake3()
            for start in range(0, len(tokens), _VERIFY_TOKENS):
                hasher.update(tokens[start : start + _VERIFY_TOKENS].tobytes())
            hasher.update(self._rows(index).tobytes())
            if hasher.hexdigest() != shard.blake3:
                raise _damaged("the tokens or documents do not match their hash", self._file(index))

    def _file(self, index: int) -> Path:
        return self.path / f"tokens-{index:05d}.bin"

    def _map(self, index: int, shard: ShardInfo) -> Ids:
        """The tokens of a shard; nothing of them is in memory yet."""
        path, dtype = self._file(index), np.dtype(self.info.dtype).newbyteorder("<")
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise _damaged("the token shard is missing", path)
        if size != shard.tokens * dtype.itemsize:
            raise _damaged(f"the token shard has {size:,} bytes; its manifest says {shard.tokens:,} tokens", path)
        if size == 0:  # the system does not map empty files
            return np.zeros(0, dtype=dtype)
        return np.memmap(path, dtype=dtype, mode="r", shape=(shard.tokens,))

    def _rows(self, index: int) -> npt.NDArray[np.int64]:
        path = self.path / f"documents-{index:05d}.npy"
        try:
            rows: npt.NDArray[np.int64] = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise _damaged("the index of documents cannot be read", path) from error
        if rows.shape != (self.info.shards[index].documents, 2):
            raise _damaged("the index of documents is not that of its manifest", path)
        return rows


def _damaged(what: str, where: Path) -> DamagedArtifact:
    return DamagedArtifact(
        what,
        where=str(where),
        cure="Run the same command again: what is damaged is made anew.",
    )
