"""A tokenizer of one's own: every text comes back, the same text gives the same tokenizer, transformers reads it."""

from __future__ import annotations

import json
import pydoc_data.topics

import pytest

from steep.corpus.tokenize import CorpusTokenizer
from steep.corpus.vocabulary import END_OF_TEXT, train_tokenizer
from steep.spec.errors import InvalidCorpus

TEXTS = [text for _, text in sorted(pydoc_data.topics.topics.items())][:40]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("vocabulary") / "tokenizer"
    train_tokenizer(iter(TEXTS), 600, out)
    return out


def test_it_is_a_tokenizer_as_the_corpus_wants_it(made):
    tokenizer = CorpusTokenizer.load(str(made))
    assert (tokenizer.eos_id, tokenizer.bos_id, tokenizer.vocab_size) == (0, None, 600)
    assert tokenizer.engine == "gigatoken"
    text = "naïve 日本語 😀\x00\r\n  def f(x):\treturn x"
    (ids,) = tokenizer.encode_batch([text])
    from tokenizers import Tokenizer

    assert Tokenizer.from_file(str(made / "tokenizer.json")).decode(ids.tolist()) == text


def test_transformers_reads_it(made):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(made)
    assert tokenizer.eos_token == END_OF_TEXT
    assert tokenizer.eos_token_id == 0
    assert tokenizer.decode(tokenizer("An [example] , it's here .")["input_ids"]) == "An [example] , it's here ."
    (ids,) = CorpusTokenizer.load(str(made)).encode_batch([TEXTS[3]])
    assert tokenizer(TEXTS[3])["input_ids"] == ids.tolist()


def test_the_same_text_gives_the_same_tokenizer(made, tmp_path):
    train_tokenizer(iter(TEXTS), 600, tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        assert (tmp_path / "again" / name).read_bytes() == (made / name).read_bytes()


def test_end_of_text_is_the_first_entry_and_bytes_follow(made):
    vocabulary = json.loads((made / "tokenizer.json").read_bytes())["model"]["vocab"]
    assert vocabulary[END_OF_TEXT] == 0
    assert sorted(vocabulary.values()) == list(range(600))


@pytest.mark.parametrize(("texts", "size", "word"), [(["too little"], 600, "characters"), (TEXTS, 256, "byte")])
def test_too_little_is_refused(texts, size, word, tmp_path):
    with pytest.raises(InvalidCorpus, match=word):
        train_tokenizer(iter(texts), size, tmp_path / "tokenizer")
    assert not list(tmp_path.iterdir())
