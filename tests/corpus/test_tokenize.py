"""Text to ids: the true ones whatever the engine, each document framed, datasets whole or not at all."""

from __future__ import annotations

import json
import pydoc_data.topics
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steep.artifacts.tokens import TokenDataset
from steep.corpus import shards
from steep.corpus.document import make_document
from steep.corpus.tokenize import CorpusTokenizer, batched, write_token_dataset
from steep.corpus.vocabulary import train_tokenizer
from steep.spec.errors import DamagedArtifact, InvalidModel

TEXTS = [text for _, text in sorted(pydoc_data.topics.topics.items())][:20]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A tokenizer without BOS."""
    out = tmp_path_factory.mktemp("tokenize") / "plain"
    train_tokenizer(iter(TEXTS), 400, out)
    return out


@pytest.fixture(scope="module")
def with_bos(plain, tmp_path_factory) -> Path:
    """One that puts `<s>` before a text and has a special token of its own."""
    from tokenizers import AddedToken, Tokenizer, processors

    out = tmp_path_factory.mktemp("tokenize") / "bos"
    out.mkdir()
    tokenizer = Tokenizer.from_file(str(plain / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken("<s>"), AddedToken("<|tool|>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 400)])
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": "<|endoftext|>"}
    (out / "tokenizer_config.json").write_text(json.dumps(settings))
    return out


def documents(texts: list[str]) -> list[Any]:
    return [make_document(text, "docs", f"{i}") for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def engines(with_bos) -> tuple[CorpusTokenizer, CorpusTokenizer]:
    """The same tokenizer with either engine."""
    return CorpusTokenizer.load(str(with_bos), "gigatoken"), CorpusTokenizer.load(str(with_bos), "tokenizers")


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=200), max_size=5))
def test_both_engines_give_the_same_ids(engines, texts):
    quick, truth = engines
    assert (quick.engine, truth.engine) == ("gigatoken", "tokenizers")
    texts = [*texts, "<s>", "a<|tool|>b <|endoftext|>"]
    for one, other in zip(quick.encode_batch(texts), truth.encode_batch(texts), strict=True):
        assert one.tolist() == other.tolist()


def test_bos_is_known_only_where_the_tokenizer_adds_one(plain, with_bos):
    assert CorpusTokenizer.load(str(plain)).bos_id is None
    tokenizer = CorpusTokenizer.load(str(with_bos))
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocab_size) == (400, 0, 402)
    assert tokenizer.fingerprint != CorpusTokenizer.load(str(plain)).fingerprint


@pytest.mark.parametrize("kind", ["plain", "with_bos"])
def test_a_dataset_holds_framed_documents(kind, request, tmp_path):
    tokenizer = CorpusTokenizer.load(str(request.getfixturevalue(kind)))
    texts = ["", "naïve 日本", *TEXTS]
    info = write_token_dataset(documents(texts), tokenizer, tmp_path / "data", name="docs", keep_texts=True)
    dataset = TokenDataset(tmp_path / "data")
    expected = [
        [*([] if tokenizer.bos_id is None else [tokenizer.bos_id]), *ids.tolist(), tokenizer.eos_id]
        for ids in tokenizer.encode_batch(texts)
    ]
    assert dataset.read(0, len(dataset)).tolist() == [token for row in expected for token in row]
    assert dataset.documents().tolist() == [
        [len(row), len(text.encode())] for row, text in zip(expected, texts, strict=True)
    ]
    assert pq.read_table(tmp_path / "data" / "texts-00000.parquet")["text"].to_pylist() == texts
    assert (info.tokens, info.documents, info.dtype) == (sum(map(len, expected)), len(texts), "uint16")
    assert info.text_bytes == sum(len(text.encode()) for text in texts)
    assert dataset.info == info


def test_shards_do_not_show(plain, tmp_path, monkeypatch):
    tokenizer = CorpusTokenizer.load(str(plain))
    write_token_dataset(documents(TEXTS), tokenizer, tmp_path / "one", name="docs", keep_texts=True)
    monkeypatch.setattr(shards, "SHARD_TOKENS", 3000)
    monkeypatch.setattr("steep.corpus.tokenize.BATCH_BYTES", 5000)
    write_token_dataset(documents(TEXTS), tokenizer, tmp_path / "many", name="docs", keep_texts=True)
    one, many = TokenDataset(tmp_path / "one"), TokenDataset(tmp_path / "many")
    assert len(many.info.shards) > 3
    assert one.read(0, len(one)).tolist() == many.read(0, len(many)).tolist()
    assert np.array_equal(one.documents(), many.documents())


def test_a_torn_dataset_is_none(plain, tmp_path):
    tokenizer = CorpusTokenizer.load(str(plain))
    write_token_dataset(documents(TEXTS), tokenizer, tmp_path / "data", name="docs")

    def failing():
        yield from documents(TEXTS[:3])
        raise KeyError("the source fails")

    with pytest.raises(KeyError):
        write_token_dataset(failing(), tokenizer, tmp_path / "data", name="docs")
    with pytest.raises(DamagedArtifact):
        TokenDataset(tmp_path / "data")


def test_the_fingerprint_is_that_of_the_content(plain, tmp_path):
    tokenizer = CorpusTokenizer.load(str(plain))

    def fingerprint(texts: list[str]) -> str:
        return write_token_dataset(documents(texts), tokenizer, tmp_path / "data", name="docs").fingerprint

    first = fingerprint(TEXTS)
    assert fingerprint(TEXTS) == first
    assert fingerprint(TEXTS[::-1]) != first
    assert fingerprint([*TEXTS[:-1], TEXTS[-1] + "."]) != first


def test_a_large_vocabulary_takes_four_bytes(plain, tmp_path):
    assert shards.dtype_name(2**16) == "uint16"
    assert shards.dtype_name(2**16 + 1) == "uint32"
    writer = shards.TokenDatasetWriter(
        tmp_path / "data", name="x", vocab_size=2**17, eos_id=0, bos_id=None, tokenizer_fingerprint="t"
    )
    writer.append(np.array([70_000, 0], dtype=np.uint32), np.array([[2, 5]]))
    writer.finish()
    assert TokenDataset(tmp_path / "data").read(0, 2).tolist() == [70_000, 0]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no tokenizer.json"),
        ({"vocab.json": "{}"}, "vocab.json but no tokenizer.json"),
        ({"tokenizer.json": "{}"}, "not a tokenizer"),
        ({"tokenizer.json": None}, "no end-of-text token"),
        ({"tokenizer.json": None, "tokenizer_config.json": "{"}, "is not JSON"),
        ({"tokenizer.json": None, "tokenizer_config.json": '{"eos_token": "</s>"}'}, "no end-of-text token"),
    ],
)
def test_a_bad_tokenizer_is_named(files, words, plain, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content if content is not None else (plain / name).read_text())
    with pytest.raises(InvalidModel, match=words) as refused:
        CorpusTokenizer.load(str(tmp_path))
    assert refused.value.cure


def test_batches_keep_the_order_and_their_size():
    texts = ["a" * 10, "b" * 95, "c" * 10, "d" * 90, "e"]
    assert list(batched(iter(texts), 100)) == [["a" * 10], ["b" * 95], ["c" * 10, "d" * 90], ["e"]]


@pytest.mark.shared
@pytest.mark.parametrize("name", ["gpt2", "neox20b"])
def test_real_tokenizers_agree_on_real_text(name, shared_data):
    tokenizer = CorpusTokenizer.load(str(shared_data / "tokenizers" / name))
    assert tokenizer.engine == "gigatoken"
    sample = [
        path.read_text(encoding="utf-8")[:20_000]
        for kind in ("domain/chinese_docs", "domain/german_novels", "domain/python_peps", "general/us_speeches")
        for path in sorted((shared_data / kind).rglob("*.*"))[:5]
    ]
    assert tokenizer.agrees(sample)
