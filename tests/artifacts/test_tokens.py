"""Token datasets: any span, whatever the shards; damage is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from steep.artifacts.tokens import ShardInfo, TokenDataset, TokenDatasetInfo
from steep.spec.errors import DamagedArtifact


def write(path: Path, shards: list[list[int]], dtype: str = "uint16") -> npt.NDArray[np.int64]:
    """A dataset with these shards, each of one document per two tokens; returns the whole stream."""
    path.mkdir(exist_ok=True)
    infos = []
    for index, ids in enumerate(shards):
        tokens = np.array(ids, dtype=np.dtype(dtype).newbyteorder("<"))
        rows = np.array([[2, 5]] * (len(ids) // 2), dtype=np.int64).reshape(-1, 2)
        tokens.tofile(path / f"tokens-{index:05d}.bin")
        np.save(path / f"documents-{index:05d}.npy", rows)
        digest = blake3(tokens.tobytes() + rows.tobytes()).hexdigest()
        infos.append(ShardInfo(tokens=len(ids), documents=len(rows), text_bytes=5 * len(rows), blake3=digest))
    info = TokenDatasetInfo.model_validate(
        {
            "name": "test",
            "fingerprint": "f",
            "tokenizer_fingerprint": "t",
            "dtype": dtype,
            "vocab_size": 70_000,
            "eos_id": 0,
            "bos_id": None,
            "shards": infos,
        }
    )
    (path / "manifest.json").write_text(info.model_dump_json())
    return np.concatenate([np.array(ids, dtype=np.int64) for ids in shards]) if shards else np.zeros(0, np.int64)


SHARDS = [[1, 2, 3, 0], [], [4, 0], [5, 6, 7, 8, 9, 0]]


@settings(deadline=None, max_examples=50)
@given(
    shards=st.lists(st.lists(st.integers(0, 65_535), max_size=6), min_size=1, max_size=5).filter(any),
    start=st.integers(0, 100),
    length=st.integers(0, 50),
)
def test_any_span_is_that_of_the_stream(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[int]], start: int, length: int
) -> None:
    path = tmp_path_factory.mktemp("dataset")
    stream = write(path, shards)
    expected = stream[np.arange(start, start + length) % len(stream)]
    read = TokenDataset(path).read(start, length)
    assert read.dtype == np.int64
    assert read.tolist() == expected.tolist()


def test_large_ids_survive(tmp_path: Path) -> None:
    ids = [65_536, 69_999, 0]
    write(tmp_path, [ids], "uint32")
    assert TokenDataset(tmp_path).read(0, 3).tolist() == ids


def test_counts_are_those_of_all_shards(tmp_path: Path) -> None:
    write(tmp_path, SHARDS)
    dataset = TokenDataset(tmp_path)
    assert (len(dataset), dataset.info.tokens, dataset.info.documents, dataset.info.text_bytes) == (12, 12, 6, 30)
    assert dataset.documents().tolist() == [[2, 5]] * 6
    dataset.verify()


@pytest.mark.parametrize("shards", [[], [[]], [[], []]])
def test_a_dataset_without_tokens_can_be_opened(tmp_path: Path, shards: list[list[int]]) -> None:
    write(tmp_path, shards)
    dataset = TokenDataset(tmp_path)
    assert (len(dataset), dataset.documents().shape) == (0, (0, 2))
    dataset.verify()
    with pytest.raises(AssertionError, match="holds no tokens"):
        dataset.read(0, 1)


def test_a_place_without_a_manifest_is_no_dataset(tmp_path: Path) -> None:
    write(tmp_path, SHARDS)
    (tmp_path / "manifest.json").rename(tmp_path / "elsewhere")
    with pytest.raises(DamagedArtifact, match="holds no token dataset"):
        TokenDataset(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"name": 1}', "\x00"])
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str) -> None:
    write(tmp_path, SHARDS)
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DamagedArtifact, match=r"manifest\.json: is not the manifest"):
        TokenDataset(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "short", "long"])
def test_a_shard_of_another_size_is_named_when_opened(tmp_path: Path, damage: str) -> None:
    write(tmp_path, SHARDS)
    shard = tmp_path / "tokens-00002.bin"
    content = shard.read_bytes()
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(content[:-1] if damage == "short" else content + b"\x00")
    with pytest.raises(DamagedArtifact, match=r"tokens-00002\.bin") as damaged:
        TokenDataset(tmp_path)
    assert "made anew" in str(damaged.value.cure)


@pytest.mark.parametrize("name", ["tokens-00003.bin", "documents-00003.npy"])
def test_a_flipped_bit_is_noticed(tmp_path: Path, name: str) -> None:
    write(tmp_path, SHARDS)
    damaged = bytearray((tmp_path / name).read_bytes())
    damaged[-2] ^= 4
    (tmp_path / name).write_bytes(damaged)
    dataset = TokenDataset(tmp_path)
    with pytest.raises(DamagedArtifact, match=r"tokens-00003\.bin: the tokens or documents do not match"):
        dataset.verify()


@pytest.mark.parametrize("damage", ["missing", "empty", "short", "another"])
def test_a_damaged_index_of_documents_is_named(tmp_path: Path, damage: str) -> None:
    write(tmp_path, SHARDS)
    index = tmp_path / "documents-00000.npy"
    if damage == "missing":
        index.unlink()
    elif damage == "another":
        np.save(index, np.zeros((5, 2), np.int64))
    else:
        index.write_bytes(index.read_bytes()[: 0 if damage == "empty" else -3])
    with pytest.raises(DamagedArtifact, match=r"documents-00000\.npy"):
        TokenDataset(tmp_path).documents()
