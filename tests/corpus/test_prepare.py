"""Raw text to token datasets: every byte accounted for, nothing held out is trained on, and it goes on after any end."""

from __future__ import annotations

import json
import pydoc_data.topics
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from steep.artifacts.tokens import TokenDataset
from steep.corpus import datasets, reading, workers
from steep.corpus.prepare import PreparedCorpus, open_sound, prepare, read_manifest
from steep.corpus.vocabulary import train_tokenizer
from steep.spec.errors import DamagedArtifact, InvalidCorpus, InvalidModel
from steep.spec.job import JobSpec
from steep.spec.load import parse_spec

TOPICS = dict(sorted(pydoc_data.topics.topics.items()))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("prepare") / "tokenizer"
    train_tokenizer(iter(list(TOPICS.values())[:30]), 500, out)
    return str(out)


@pytest.fixture
def topics(tmp_path) -> Path:
    """The chapters of Python's language reference, one file each."""
    directory = tmp_path / "topics"
    directory.mkdir()
    for name, text in TOPICS.items():
        (directory / f"{name}.txt").write_text(text, encoding="utf-8")
    return directory


@pytest.fixture
def library(tmp_path) -> Path:
    """Some modules of the standard library."""
    directory = tmp_path / "library"
    directory.mkdir()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("[a-d]*.py")):
        shutil.copy(path, directory)
    return directory


def job(*sources: Any, **parts: Any) -> JobSpec:
    corpus = {"sources": [str(each) if isinstance(each, Path) else each for each in sources], **parts.pop("corpus", {})}
    return parse_spec({"name": "test", "base": "base", "corpus": corpus, **parts})


def ids_of(dataset: TokenDataset) -> list[int]:
    return dataset.read(0, len(dataset)).tolist()


def texts_of(dataset: TokenDataset) -> list[str]:
    return [
        text
        for path in sorted(dataset.path.glob("texts-*.parquet"))
        for text in pq.read_table(path)["text"].to_pylist()
    ]


def decoded(dataset: TokenDataset, tokenizer: str) -> list[str]:
    """The documents of a dataset, back as text."""
    from tokenizers import Tokenizer

    decoder = Tokenizer.from_file(f"{tokenizer}/tokenizer.json")
    ids = dataset.read(0, len(dataset)) if len(dataset) else np.zeros(0, np.int64)
    rows = np.split(ids, np.cumsum(dataset.documents()[:, 0])[:-1])
    assert all(row[-1] == dataset.info.eos_id for row in rows if len(row))
    return [decoder.decode(row[:-1].tolist()) for row in rows]


def assert_sums(out: Path, read_bytes: int | None = None) -> dict[str, Any]:
    """Check the accounting against what is really there: datasets, drops and files."""
    accounting: dict[str, Any] = json.loads((out / "accounting.json").read_bytes())
    drops = pq.read_table(out / "drops.parquet")
    dropped = sum(drops["text_bytes"].to_pylist())
    infos = {
        part: [TokenDataset(each).info for each in sorted((out / part).glob("*"))]
        for part in ("train", "holdout", "general", "replay")
    }
    kept = sum(info.text_bytes for own in infos.values() for info in own)
    assert accounting["bytes_dropped"] == dropped
    assert accounting["bytes_kept"] == kept
    assert accounting["documents_dropped"] == drops.num_rows
    assert accounting["bytes_unexplained"] == 0
    assert accounting["bytes_read"] == (
        kept + dropped + accounting["bytes_changed_by_cleaning"] + accounting["bytes_not_scored"]
    )
    if read_bytes is not None:
        assert accounting["bytes_read"] == read_bytes
    tokens = accounting["tokens"]
    assert tokens["trained"] == sum(info.tokens for info in infos["train"])
    assert tokens["replay"] == sum(info.tokens for info in infos["replay"])
    assert tokens["held_out_domain"] == sum(info.tokens for info in infos["holdout"])
    assert tokens["held_out_general"] == sum(info.tokens for info in infos["general"])
    assert tokens["of_text"] + tokens["of_document_ends"] == sum(
        tokens[name] for name in ("trained", "replay", "held_out_domain", "held_out_general")
    )
    for row in accounting["dropped"].values():
        assert row["documents"] > 0
    return accounting


def test_every_byte_and_token_is_accounted_for(topics, library, tokenizer, tmp_path):
    (topics / "copy.txt").write_text(TOPICS["assert"].upper(), encoding="utf-8")
    (topics / "short.txt").write_text("too short", encoding="utf-8")
    (topics / "spaces.txt").write_text(f"{TOPICS['lambda']} new words, and space  \r\n  \n", encoding="utf-8")
    spec = job(topics, library, corpus={"holdout": "5%"}, evaluation={"max_tokens": 2000})
    corpus = prepare(spec, tokenizer, tmp_path / "out")
    sizes = sum(path.stat().st_size for place in (topics, library) for path in place.iterdir() if path.stat().st_size)
    accounting = assert_sums(tmp_path / "out", sizes)
    assert accounting["dropped"]["dedup: exact_copy"]["documents"] >= 1
    assert accounting["dropped"]["clean: too_short"] == {"documents": 1, "text_bytes": 9}
    assert accounting["bytes_changed_by_cleaning"] > 0
    assert list(corpus.train) == list(corpus.holdout) == ["topics", "library"]
    assert accounting["languages"]["en"] > 10
    assert accounting["documents_read"] == accounting["documents_kept"] + accounting["documents_dropped"]
    assert not (tmp_path / "out" / "work").exists()
    assert corpus.accounting == accounting
    assert PreparedCorpus.open(tmp_path / "out").fingerprint == corpus.fingerprint


def test_datasets_hold_the_text(topics, tokenizer, tmp_path):
    corpus = prepare(
        job(topics, corpus={"holdout": "10%", "cleaning": "none", "dedup": {"near": None}}), tokenizer, tmp_path / "out"
    )
    trained = decoded(corpus.train["topics"], tokenizer)
    held = texts_of(corpus.holdout["topics"])
    assert sorted(decoded(corpus.holdout["topics"], tokenizer)) == sorted(held)
    assert set(trained) <= set(TOPICS.values())
    assert sum(map(len, trained)) + sum(map(len, held)) + sum(
        row["text_bytes"] for row in corpus.accounting["dropped"].values()
    ) == pytest.approx(sum(map(len, TOPICS.values())), rel=0.01)
    whole = "".join(held)
    assert not any(text in whole for text in trained)
    assert max(len(piece.encode()) for piece in held) <= 8000


def test_no_near_copy_of_a_holdout_is_trained_on(tokenizer, tmp_path):
    """Families of texts that differ in a few words, spread over two sources."""
    chosen = random.Random(5)
    vocabulary = [f"word{i}" for i in range(3000)]
    for source in ("one", "two"):
        (tmp_path / source).mkdir()
    for family in range(80):
        base = chosen.choices(vocabulary, k=300)
        for member in range(4):
            words = list(base)
            for place in chosen.sample(range(300), (0, 1, 2, 2)[member]):
                words[place] = chosen.choice(vocabulary)
            path = tmp_path / ("one", "two")[member % 2] / f"{family}-{member}.txt"
            path.write_text(f"family{family} " + " ".join(words), encoding="utf-8")
    spec = job(tmp_path / "one", tmp_path / "two", corpus={"holdout": "25%"})
    corpus = prepare(spec, tokenizer, tmp_path / "out")

    def families(parts: dict[str, TokenDataset]) -> list[str]:
        return [
            text.split()[0]
            for dataset in parts.values()
            for text in decoded(dataset, tokenizer)
            if text.startswith("family")
        ]

    trained, held = families(corpus.train), families(corpus.holdout)
    assert len(held) > 5
    assert not set(trained) & set(held)
    assert len(trained) == len(set(trained)) > 40
    assert corpus.accounting["duplicates"]["near"]["documents"] >= 220
    assert_sums(tmp_path / "out")


def test_a_chain_of_near_copies_is_not_split(tokenizer, tmp_path):
    """Versions of a text, each like the next: the first and the last have little in common, and both are kept."""
    chosen = random.Random(6)
    (tmp_path / "versions").mkdir()
    for family in range(30):
        words = [f"word{chosen.randrange(3000)}" for _ in range(320)]
        for version in range(17):
            text = f"family{family} " + " ".join(words[version * 10 : version * 10 + 160])
            (tmp_path / "versions" / f"{family:02d}-{version}.txt").write_text(text, encoding="utf-8")
    spec = job(tmp_path / "versions", corpus={"holdout": "50%", "decontaminate": False, "dedup": {"near": 0.7}})
    corpus = prepare(spec, tokenizer, tmp_path / "out")
    trained = [text.split()[0] for text in decoded(corpus.train["versions"], tokenizer)]
    held = [text.split()[0] for text in texts_of(corpus.holdout["versions"])]
    assert len(trained) > 1.5 * len(set(trained)) > 7
    assert len(held) > 1.5 * len(set(held)) > 7
    assert not set(trained) & set(held)


def test_few_large_documents_are_held_out_in_pieces(tokenizer, tmp_path):
    book = "\n\n".join(f"Chapter {i}\n\n{text}" for i, text in enumerate(list(TOPICS.values())[:60]))
    (tmp_path / "book.txt").write_text(book, encoding="utf-8")
    corpus = prepare(
        job(tmp_path / "book.txt", corpus={"holdout": "10%", "cleaning": "none"}), tokenizer, tmp_path / "out"
    )
    held, trained = texts_of(corpus.holdout["book"]), decoded(corpus.train["book"], tokenizer)
    assert 0.02 < sum(map(len, held)) / len(book) < 0.3
    assert sum(map(len, held)) + sum(map(len, trained)) == len(book)
    assert all(piece in book for piece in held)
    assert not any(piece in text for piece in held for text in trained)


def test_general_text_and_replay(topics, library, tokenizer, tmp_path):
    spec = job(
        topics,
        evaluation={"general": [{"path": str(library), "include": ["a*.py"], "name": "ab"}], "max_tokens": 3000},
        replay={"source": {"path": str(library), "include": ["[b-d]*.py"], "name": "rest"}},
    )
    corpus = prepare(spec, tokenizer, tmp_path / "out")
    assert list(corpus.replay) == ["rest"]
    assert list(corpus.general) == ["ab", "rest"]
    assert list(corpus.train) == list(corpus.holdout) == ["topics"]
    for dataset in corpus.general.values():
        assert 3000 < len(dataset) < 20_000  # enough to score, and not much more
    accounting = assert_sums(tmp_path / "out")
    assert accounting["bytes_not_scored"] > 0
    replayed = "".join(decoded(corpus.replay["rest"], tokenizer))
    assert not any(piece in replayed for piece in texts_of(corpus.general["rest"]) if len(piece) > 500)


def test_evaluation_text_is_not_trained_on(topics, tokenizer, tmp_path):
    held = tmp_path / "general.txt"
    held.write_text("\n\n".join([TOPICS["assert"], TOPICS["lambda"]]), encoding="utf-8")
    spec = job(topics, evaluation={"general": [str(held)]}, corpus={"dedup": {"near": None}})
    corpus = prepare(spec, tokenizer, tmp_path / "out")
    drops = pq.read_table(tmp_path / "out" / "drops.parquet").to_pylist()
    assert {"assert.txt", "lambda.txt"} <= {row["origin"] for row in drops if row["reason"] == "evaluation_text"}
    assert corpus.accounting["dropped"]["decontaminate: evaluation_text"]["documents"] < 8
    kept = prepare(
        spec.model_copy(update={"corpus": spec.corpus.model_copy(update={"decontaminate": False})}),
        tokenizer,
        tmp_path / "kept",
    )
    assert "decontaminate: evaluation_text" not in kept.accounting["dropped"]


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_number_of_processes(topics, library, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "SMALL_BYTES", 0)
    lines = [json.dumps({"text": text}) for text in TOPICS.values()]
    (tmp_path / "lines.jsonl").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setattr(reading, "PART_BYTES", 100_000)
    monkeypatch.setattr(reading, "UNIT_BYTES", 200_000)
    spec = job(
        topics,
        library,
        tmp_path / "lines.jsonl",
        evaluation={"general": [str(library)]},
        corpus={"decontaminate": False},
    )
    alone = prepare(spec, tokenizer, tmp_path / "alone", num_workers=1)
    spread = prepare(spec, tokenizer, tmp_path / "spread", num_workers=2)
    assert alone.fingerprint == spread.fingerprint
    assert alone.accounting == spread.accounting
    names = ("id", "step", "reason")
    tables = [pq.read_table(tmp_path / place / "drops.parquet").select(names) for place in ("alone", "spread")]
    assert tables[0] == tables[1]
    monkeypatch.setattr(reading, "PART_BYTES", 5_000_000)
    monkeypatch.setattr(reading, "UNIT_BYTES", 5_000_000)
    assert prepare(spec, tokenizer, tmp_path / "large", num_workers=1).fingerprint == alone.fingerprint


KILLED = """
import os, signal, sys
from pathlib import Path
from steep.corpus import prepare, reading, datasets
from steep.spec.load import load_spec

def deadly(function, calls):
    left = [calls]
    def call(*arguments):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return function(*arguments)
    return call

def logged(document, cleaning, clean=reading.clean):
    with open("cleaned.txt", "a") as log:
        log.write(document.id + "\\n")
    return clean(document, cleaning)

reading.clean = logged
reading.PART_BYTES, reading.UNIT_BYTES = 60_000, 200_000
module, name, calls = sys.argv[1].split(":")
module = {"reading": reading, "datasets": datasets, "prepare": prepare}[module]
setattr(module, name, deadly(getattr(module, name), int(calls)))
prepare.prepare(load_spec(Path(sys.argv[2])), sys.argv[3], Path(sys.argv[4]), num_workers=1)
"""


@pytest.mark.parametrize(
    "point", ["reading:write_batch:5", "reading:read_unit:2", "datasets:encode_part:3", "prepare:_commit:0"]
)
def test_a_killed_preparation_goes_on_where_it_was(point, topics, tokenizer, tmp_path, monkeypatch):
    job_file = tmp_path / "job.yaml"
    job_file.write_text(f"name: test\nbase: base\ncorpus: {{sources: [{json.dumps(str(topics))}]}}\n", encoding="utf-8")
    command = [sys.executable, "-c", KILLED, point, job_file, tokenizer, tmp_path / "out"]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == -signal.SIGKILL
    finished = (tmp_path / "cleaned.txt").read_text().split()
    with pytest.raises(DamagedArtifact):
        PreparedCorpus.open(tmp_path / "out")
    monkeypatch.setattr(reading, "PART_BYTES", 60_000)
    monkeypatch.setattr(reading, "UNIT_BYTES", 200_000)
    fresh = prepare(job(topics), tokenizer, tmp_path / "fresh", num_workers=1)
    again: list[str] = []
    cleaned: list[str] = []
    monkeypatch.setattr(reading, "extract", spying(reading.extract, again))
    monkeypatch.setattr(reading, "clean", spying(reading.clean, cleaned))
    resumed = prepare(job(topics), tokenizer, tmp_path / "out", num_workers=1)
    assert resumed.fingerprint == fresh.fingerprint
    assert resumed.accounting == fresh.accounting
    assert_sums(tmp_path / "out")
    assert sorted([*finished, *cleaned]) == sorted(set(finished) | set(cleaned))  # no document is cleaned twice
    assert len(finished) > 0.2 * len(TOPICS)
    assert bool(again) is ("reading" in point)


def spying(function, calls: list[str]):
    def call(first, *others):
        calls.append(getattr(first, "id", ""))
        return function(first, *others)

    return call


def test_an_unchanged_corpus_is_never_prepared_twice(topics, tokenizer, tmp_path, monkeypatch):
    spec = job(topics, {"path": str(topics / "assert.txt"), "weight": 2})
    first = prepare(spec, tokenizer, tmp_path / "out")
    calls: list[str] = []
    monkeypatch.setattr(reading, "extract", spying(reading.extract, calls))
    other = job(topics, {"path": str(topics / "assert.txt"), "weight": 3}, seed=3, training={"budget": "3 epochs"})
    assert prepare(other, tokenizer, tmp_path / "out").fingerprint == first.fingerprint
    assert not calls
    (topics / "new.txt").write_text("Something new. " * 30, encoding="utf-8")
    second = prepare(spec, tokenizer, tmp_path / "out")
    assert calls
    assert second.fingerprint != first.fingerprint
    assert prepare(job(topics, corpus={"holdout": "5%"}), tokenizer, tmp_path / "out").fingerprint != second.fingerprint
    assert sorted(path.name for path in (tmp_path / "out" / "train").iterdir()) == [
        "topics"
    ]  # what was of the other is gone


def test_another_tokenizer_is_another_corpus(topics, tokenizer, tmp_path):
    train_tokenizer(iter(list(TOPICS.values())[30:60]), 700, tmp_path / "other")
    first = prepare(job(topics), tokenizer, tmp_path / "out")
    second = prepare(job(topics), str(tmp_path / "other"), tmp_path / "out")
    assert first.fingerprint != second.fingerprint
    assert second.train["topics"].info.vocab_size == 700


def test_a_quick_engine_that_is_wrong_is_not_used(topics, tokenizer, tmp_path, monkeypatch):
    right = prepare(job(topics), tokenizer, tmp_path / "right")
    assert right.accounting["tokenizer_engine"] == "gigatoken"

    class Wrong:
        """Encodes the special tokens rightly, but not prose."""

        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def encode(self, text: str) -> Any:
            return self._inner.encode(text)[: None if " the " not in text else -1]

    from steep.corpus import tokenize

    load = tokenize._quick_engine
    monkeypatch.setattr(tokenize, "_quick_engine", lambda content: Wrong(load(content)))
    monkeypatch.setattr(datasets, "_SAMPLED_TEXTS", 0)  # so that it is found out late, part by part
    found = prepare(job(topics), tokenizer, tmp_path / "wrong")
    assert found.accounting["tokenizer_engine"] == "tokenizers"
    assert found.fingerprint == right.fingerprint


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (None, "no such file"),
        ({}, "no files"),
        ({"a.txt": b"short"}, "no text is left to train on"),
        ({"a.txt": b""}, "no text is left to train on"),
        ({"a.pdf": b"%PDF-1.4 broken", "b.txt": TOPICS["assert"].encode()}, "1 of 2 files cannot be read: a.pdf"),
        (
            {"a.jsonl": b"".join([b'{"text": "a good line"}\n'] * 9 + [b'{"text": \n'])},
            "1 of 10 documents cannot be read: a.jsonl:10",
        ),
    ],
)
def test_bad_corpora_are_refused_with_the_reason(files, words, tokenizer, tmp_path):
    if files is not None:
        (tmp_path / "text").mkdir()
        for name, content in files.items():
            (tmp_path / "text" / name).write_bytes(content)
    with pytest.raises(InvalidCorpus, match=words) as refused:
        prepare(job(tmp_path / "text"), tokenizer, tmp_path / "out")
    assert str(tmp_path / "text") in str(refused.value)
    assert refused.value.cure
    with pytest.raises(DamagedArtifact):
        PreparedCorpus.open(tmp_path / "out")


def test_a_few_files_that_cannot_be_read_are_dropped(topics, tokenizer, tmp_path):
    (topics / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    for number in range(20):  # more than max_failed, but nobody's fault
        (topics / f"settings-{number}.json").write_text('{"width": 3}', encoding="utf-8")
        (topics / f"empty-{number}.txt").write_bytes(b"")
    corpus = prepare(job(topics), tokenizer, tmp_path / "out")
    assert corpus.accounting["dropped"]["extract: corrupt"] == {"documents": 1, "text_bytes": 15}
    assert_sums(tmp_path / "out")


def test_replay_that_is_evaluation_text_is_refused(topics, library, tokenizer, tmp_path):
    spec = job(topics, evaluation={"general": [str(library)], "max_tokens": 10**6}, replay={"source": str(library)})
    with pytest.raises(InvalidCorpus, match="for replay: it is evaluation text too"):
        prepare(spec, tokenizer, tmp_path / "out")


def test_a_missing_tokenizer_is_named(topics, tmp_path):
    with pytest.raises(InvalidModel):
        prepare(job(topics), str(tmp_path / "nowhere"), tmp_path / "out")


def test_progress_is_told(topics, tokenizer, tmp_path):
    told: list[tuple[str, float, float | None]] = []
    prepare(job(topics), tokenizer, tmp_path / "out", progress=lambda *what: told.append(what))
    assert {what for what, _, _ in told} >= {"files read", "bytes of text encoded"}
    assert told[0] == ("files read", 0, len(TOPICS))
    for what in {what for what, _, _ in told}:
        done = [at for name, at, _ in told if name == what]
        assert done == sorted(done)
        assert done[-1] == pytest.approx(next(total for name, _, total in told if name == what))


REAL = {
    "domain": (
        "medical_qa",
        "plos_science",
        "python_peps",
        "product_docs",
        "world_factbook",
        "german_novels",
        "chinese_docs",
    ),
    "general": ("novels", "us_speeches", "wikitext2"),
}


@pytest.mark.shared
@pytest.mark.parametrize("corpus", [name for names in REAL.values() for name in names])
def test_the_sums_hold_on_real_corpora(corpus, shared_data, tokenizer, tmp_path):
    (place,) = shared_data.glob(f"*/{corpus}")
    prepared = prepare(job(place, corpus={"max_failed": "20%"}), tokenizer, tmp_path / "out")
    accounting = assert_sums(tmp_path / "out")
    assert accounting["bytes_kept"] > 0.7 * accounting["bytes_read"]
    assert len(prepared.holdout[corpus]) > 0


def test_text_of_tasks_is_not_trained_on(topics, tokenizer, tmp_path):
    secret = TOPICS["assert"]
    without = prepare(job(topics), tokenizer, tmp_path / "without", num_workers=1)
    asked = prepare(job(topics), tokenizer, tmp_path / "with", num_workers=1, task_texts=[secret])
    assert "evaluation_text" in json.dumps(asked.accounting)
    assert "evaluation_text" not in json.dumps(without.accounting)
    trained = {
        name: decoded(dataset, tokenizer)
        for name, dataset in (("without", without.train["topics"]), ("with", asked.train["topics"]))
    }
    assert any("assert_stmt" in text or "AssertionError" in text for text in trained["without"])
    assert len(trained["with"]) < len(trained["without"])
    assert without.fingerprint != asked.fingerprint


def test_prompts_are_not_trained_on_and_short_ones_change_nothing(topics, tokenizer, tmp_path):
    words = TOPICS["assert"].split()
    secret, phrase = " ".join(words[: len(words) * 3 // 4]), " ".join(words[:15])
    asked = job(topics, evaluation={"prompts": [secret, phrase]})
    accountings = {}
    for name, spec in {
        "none": job(topics),
        "short": job(topics, evaluation={"prompts": [phrase]}),
        "long": asked,
        "as it is": job(topics, corpus={"decontaminate": False}, evaluation={"prompts": [secret]}),
    }.items():
        accountings[name] = json.dumps(prepare(spec, tokenizer, tmp_path / name, num_workers=1).accounting)
    assert {name for name, text in accountings.items() if "evaluation_text" in text} == {"long"}
    manifests = {name: read_manifest(tmp_path / name) for name in accountings}
    assert manifests["none"].inputs_fingerprint == manifests["short"].inputs_fingerprint
    again = prepare(asked, tokenizer, tmp_path / "none", num_workers=1)
    assert again.fingerprint == manifests["long"].corpus_fingerprint != manifests["none"].corpus_fingerprint


@pytest.mark.parametrize("damage", ["a flipped bit", "half a file", "a missing file"])
@pytest.mark.parametrize("part", ["train", "holdout"])
def test_what_is_damaged_is_made_anew(topics, tokenizer, tmp_path, part, damage):
    spec = job(topics, corpus={"holdout": "10%"})
    before = prepare(spec, tokenizer, tmp_path / "out", num_workers=1)
    shard = tmp_path / "out" / part / "topics" / "tokens-00000.bin"
    content = shard.read_bytes()
    shard.unlink()
    if damage != "a missing file":
        other = bytearray(content[: len(content) // 2] if damage == "half a file" else content)
        other[7] ^= 1
        shard.write_bytes(other)
    with pytest.raises(DamagedArtifact, match=r"tokens-00000\.bin"):
        open_sound(tmp_path / "out")
    after = prepare(spec, tokenizer, tmp_path / "out", num_workers=1)
    assert after.fingerprint == before.fingerprint
    assert shard.read_bytes() == content


def test_of_a_large_corpus_only_what_is_quickly_read_is_compared(topics, library, tokenizer, tmp_path):
    corpus = prepare(job(topics, library, corpus={"holdout": "10%"}), tokenizer, tmp_path / "out", num_workers=1)
    small, large = sorted(corpus.train.values(), key=len)
    shard = large.path / "tokens-00000.bin"
    content = bytearray(shard.read_bytes())
    content[7] ^= 1
    shard.write_bytes(content)
    corpus.verify(most_bytes=small.info.token_bytes)
    with pytest.raises(DamagedArtifact, match="do not match their hash"):
        corpus.verify(most_bytes=small.info.token_bytes + large.info.token_bytes)
    for held_out in corpus.holdout.values():  # these are always compared
        (held_out.path / "documents-00000.npy").unlink()
    with pytest.raises(DamagedArtifact, match="index of documents"):
        corpus.verify(most_bytes=0)
