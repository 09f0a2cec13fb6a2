"""Writing token datasets, in the layout of `artifacts/tokens.py`; a dataset exists when its manifest does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from steep.artifacts.files import full_disk_stops, hash_text, write_atomic
from steep.artifacts.tokens import Ids, ShardInfo, TokenDatasetInfo
from steep.corpus.columns import strings

SHARD_TOKENS = 2**26
_TEXT_ROWS = 1000


class TokenDatasetWriter:
    """Writes one token dataset, shard after shard, holding no more than a batch of documents.

    Args:
        out: directory to make; a dataset that stands there is replaced.
        name: the dataset's name.
        vocab_size: ids are below it; it decides between uint16 and uint32.
        eos_id: ends every document.
        bos_id: begins every document, or none.
        tokenizer_fingerprint: of the tokenizer that made the ids.
        keep_texts: also keep the texts, so that a model with another tokenizer can be scored on them.
    """

    def __init__(
        self,
        out: Path,
        *,
        name: str,
        vocab_size: int,
        eos_id: int,
        bos_id: int | None,
        tokenizer_fingerprint: str,
        keep_texts: bool = False,
    ) -> None:
        self._out = out
        self._facts: dict[str, Any] = {
            "name": name,
            "vocab_size": vocab_size,
            "eos_id": eos_id,
            "bos_id": bos_id,
            "tokenizer_fingerprint": tokenizer_fingerprint,
        }
        self._dtype_name: Literal["uint16", "uint32"] = dtype_name(vocab_size)
        self._dtype = np.dtype(self._dtype_name).newbyteorder("<")
        self._keep_texts = keep_texts
        self._shards: list[ShardInfo] = []
        self._lengths: list[npt.NDArray[np.int64]] = []
        self._texts: list[str] = []
        self._stream: IO[bytes] | None = None
        self._hasher = blake3()
        self._tokens = 0
        _clear(out)

    def append(self, ids: Ids, lengths: npt.NDArray[np.int64], texts: list[str] | None = None) -> None:
        """Add whole documents.

        Args:
            ids: their tokens one after another, BOS and EOS included.
            lengths: int64 `[num_docs, 2]`: tokens and UTF-8 bytes of text of each.
            texts: their texts, where texts are kept.
        """
        with full_disk_stops(self._out):
            if self._stream is None:
                self._stream = open(self._path("tokens", "bin"), "wb")  # noqa: SIM115 - closed with its shard
            content = np.ascontiguousarray(ids, dtype=self._dtype).data.cast("B") if len(ids) else b""
            self._stream.write(content)
        self._hasher.update(content)
        self._tokens += len(ids)
        self._lengths.append(lengths)
        if self._keep_texts:
            assert texts is not None
            assert len(texts) == len(lengths)
            self._texts.extend(texts)
        if self._tokens >= SHARD_TOKENS:
            self._end_shard()

    def finish(self) -> TokenDatasetInfo:
        """Write the manifest: from now on the dataset exists."""
        if self._stream is not None:
            self._end_shard()
        facts = sorted(f"{key}={value}" for key, value in self._facts.items())
        info = TokenDatasetInfo(
            **self._facts,
            dtype=self._dtype_name,
            shards=tuple(self._shards),
            fingerprint=hash_text("tokens-1", *facts, *(shard.blake3 for shard in self._shards)),
        )
        write_atomic(self._out / "manifest.json", info.model_dump_json(indent=1))
        return info

    def _end_shard(self) -> None:
        assert self._stream is not None
        with full_disk_stops(self._out):
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            lengths = np.concatenate(self._lengths).astype(np.int64)
            with open(self._path("documents", "npy"), "wb") as stream:
                np.save(stream, lengths)
                stream.flush()
                os.fsync(stream.fileno())
            if self._keep_texts:
                self._write_texts()
        self._hasher.update(lengths.tobytes())
        self._shards.append(
            ShardInfo(
                tokens=self._tokens,
                documents=len(lengths),
                text_bytes=int(lengths[:, 1].sum()),
                blake3=self._hasher.hexdigest(),
            )
        )
        self._stream, self._tokens, self._hasher = None, 0, blake3()
        self._lengths, self._texts = [], []

    def _write_texts(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({"text": strings(self._texts)})
        pq.write_table(table, self._path("texts", "parquet"), compression="zstd", row_group_size=_TEXT_ROWS)

    def _path(self, stem: str, suffix: str) -> Path:
        return self._out / f"{stem}-{len(self._shards):05d}.{suffix}"


def dtype_name(vocab_size: int) -> Literal["uint16", "uint32"]:
    """The smallest type that holds every id of a vocabulary."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


def frame(
    encoded: list[npt.NDArray[np.uint32]], sizes: list[int], *, eos_id: int, bos_id: int | None
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """Documents as one row of ids, each `[BOS] ids EOS`, and their lengths as `TokenDatasetWriter.append` takes them.

    Args:
        encoded: ids of each document.
        sizes: UTF-8 bytes of each document's text.
        eos_id: put after every document.
        bos_id: put before every document, unless none.
    """
    head = 0 if bos_id is None else 1
    lengths = np.empty((len(encoded), 2), dtype=np.int64)
    lengths[:, 0] = [len(ids) + head + 1 for ids in encoded]
    lengths[:, 1] = sizes
    stops = np.cumsum(lengths[:, 0])
    flat = np.empty(int(stops[-1]) if len(stops) else 0, dtype=np.uint32)
    for ids, stop in zip(encoded, stops.tolist(), strict=True):
        flat[stop - 1 - len(ids) : stop - 1] = ids
    flat[stops - 1] = eos_id
    if bos_id is not None:
        flat[stops - lengths[:, 0]] = bos_id
    return flat, lengths


def _clear(out: Path) -> None:
    """Remove what stands in the way: the manifest first, so that a torn dataset is none."""
    with full_disk_stops(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / "manifest.json").unlink(missing_ok=True)
        for pattern in ("tokens-*.bin", "documents-*.npy", "texts-*.parquet"):
            for path in out.glob(pattern):
                path.unlink()
