"""Files to documents: records, cuts, reasons, and that every byte is somewhere."""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from tests.corpus.helpers import PROSE, lines_of, read, reason_of, text_of, write

from steep.corpus.document import text_bytes
from steep.corpus.extract import FAILURES, LARGE_PIECE_BYTES, LARGE_TEXT_BYTES, PIECE_BYTES, REASONS
from steep.corpus.formats.content import Unreadable
from steep.corpus.formats.readers import RECORD_READERS, STREAM_READERS, WHOLE_READERS, guarded_text
from steep.corpus.formats.registry import FORMATS
from steep.corpus.paragraphs import cut_paragraphs
from steep.spec.errors import InvalidCorpus

# ---------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.rst", "a.py", "README", "a.srt"])
def test_text_comes_out_as_it_is(tmp_path: Path, name: str) -> None:
    text = "A line.\r\n\r\n  Another one, indented.\n\tä € 漢字 🙂\n"
    assert text_of(write(tmp_path / name, text)) == text


def test_origins_are_relative_so_that_ids_outlive_a_move(tmp_path: Path) -> None:
    ids = []
    for place in ("here", "there"):
        write(tmp_path / place / "sub" / "a.txt", PROSE)
        documents, _ = read(tmp_path / place)
        assert documents[0].origin == "sub/a.txt"
        ids.append(documents[0].id)
    assert ids[0] == ids[1]


def paragraphs_of(num_bytes: int, seed: int = 7) -> str:
    draw = random.Random(seed)
    parts, size = [], 0
    while size < num_bytes:
        part = " ".join(
            draw.choice(["wälder", "sea", "of", "a", "漢字", "light"]) for _ in range(draw.randrange(5, 200))
        )
        parts.append(part + "\n" * draw.choice([1, 2, 2, 3]))
        size += text_bytes(parts[-1])
    return "".join(parts)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_books_are_cut_at_blank_lines_and_nothing_is_lost(tmp_path: Path, ends: str) -> None:
    text = paragraphs_of(100_000).replace("\n", ends)
    documents, drops = read(write(tmp_path / "book.txt", text), split_documents="paragraphs")
    assert not drops
    assert "".join(document.text for document in documents) == text
    sizes = [text_bytes(document.text) for document in documents]
    assert max(sizes) <= PIECE_BYTES
    assert min(sizes) >= PIECE_BYTES // 4
    assert all(document.text.endswith(ends * 2) for document in documents[:-1])
    lines = text.split("\n")
    for document in documents:
        line = int(document.origin.removeprefix("book.txt:"))
        assert lines[line - 1].startswith(document.text.split("\n")[0])


def test_a_huge_text_is_cut_as_it_streams_by(tmp_path: Path) -> None:
    text = paragraphs_of(LARGE_TEXT_BYTES + 50_000)
    documents, drops = read(write(tmp_path / "dump.txt", text))
    assert not drops
    assert "".join(document.text for document in documents) == text
    assert max(text_bytes(document.text) for document in documents) <= LARGE_PIECE_BYTES
    assert len(documents) > 10


def test_a_text_without_any_end_is_cut_between_characters() -> None:
    text = "漢" * 5000
    pieces = [piece for piece, _ in cut_paragraphs([text[:1234], text[1234:]], 100)]
    assert "".join(pieces) == text
    assert all(text_bytes(piece) <= 100 for piece in pieces)


def test_records_are_split_too(tmp_path: Path) -> None:
    text = paragraphs_of(20_000)
    documents, _ = read(write(tmp_path / "a.jsonl", lines_of({"text": text})), split_documents="paragraphs")
    assert "".join(document.text for document in documents) == text
    assert [document.origin for document in documents][:2] == ["a.jsonl:1.1", "a.jsonl:1.2"]


# ------------------------------------------------------------------------------------------------------------- trouble


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.txt", b"", "empty"),
        ("blank.txt", b" \n\n\t", "empty"),
        ("blank.jsonl", b"\n\n", "empty"),
        ("binary.txt", bytes(range(256)) * 40, "encoding"),
        ("pdf.txt", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3 and so on", "wrong_format"),
        ("zip.md", b"PK\x03\x04" + b"\0" * 100, "wrong_format"),
        ("gz.jsonl", gzip.compress(b'{"text": "x"}', mtime=0), "wrong_format"),
        ("text.pdf", b"no pdf at all", "corrupt"),
        ("text.docx", b"no zip at all", "corrupt"),
        ("text.xlsx", b"no zip at all", "corrupt"),
        ("text.epub", b"no zip at all", "corrupt"),
        ("text.odt", b"no zip at all", "corrupt"),
        ("text.pptx", b"no zip at all", "corrupt"),
        ("text.rtf", b"no rtf at all", "corrupt"),
        ("text.ipynb", b"no json at all", "corrupt"),
        ("text.parquet", b"no parquet at all", "corrupt"),
        ("text.xml", b"<open><not closed>", "corrupt"),
        ("text.gz", b"no gzip at all", "corrupt"),
        ("text.zip", b"no zip at all", "corrupt"),
        ("text.tar", b"no tar at all", "corrupt"),
        ("picture.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "unsupported"),
        ("old.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "unsupported"),
        ("old.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "wrong_format"),
    ],
)
def test_bad_files_have_a_reason(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = write(tmp_path / name, content)
    documents, drops = read(path)
    assert not documents
    assert [(drop.origin, drop.reason, drop.text_bytes) for drop in drops] == [(name, reason, len(content))]
    assert drops[0].excerpt


def test_files_without_an_ending_are_known_by_their_content(tmp_path: Path) -> None:
    assert text_of(write(tmp_path / "notes", PROSE)) == PROSE
    assert text_of(write(tmp_path / "page", "<!DOCTYPE html><html><p>Hello there.</p></html>")) == "Hello there."
    assert text_of(write(tmp_path / "lines", lines_of({"text": "a line"}))) == "a line"


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.txt", PROSE)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert reason_of(path) == "no_access"


def test_an_unknown_encoding_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidCorpus, match="no encoding 'utf-9'"):
        read(write(tmp_path / "a.txt", PROSE), encoding="utf-9")


def test_whatever_an_extractor_raises_or_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import logging
    import warnings

    def noisy(data: bytes, _encoding: str | None) -> str:
        print("here I am")
        os.write(2, b"and I, from below")
        print("and here", file=sys.stderr)
        warnings.warn("beware", stacklevel=1)
        logging.getLogger("noisy").error("bad")
        if data == b"fine":
            return "text"
        panic = type("PanicException", (BaseException,), {})  # as the extractor of spreadsheets raises
        raise {b"key": KeyError("k"), b"deep": RecursionError(), b"memory": MemoryError(), b"rust": panic("r")}[data]

    monkeypatch.setattr("steep.corpus.formats.rtf.read_rtf", noisy)
    assert guarded_text("rtf:read_rtf", b"fine", None) == "text"
    for data, reason in ((b"key", "corrupt"), (b"deep", "corrupt"), (b"memory", "too_large"), (b"rust", "corrupt")):
        with pytest.raises(Unreadable) as caught:
            guarded_text("rtf:read_rtf", data, None)
        assert caught.value.reason == reason
    assert capfd.readouterr() == ("", "")


@pytest.mark.timeout(60, method="thread")
def test_an_extractor_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(_data: bytes, _encoding: str | None) -> str:
        while True:
            with contextlib.suppress(Exception):  # as greedy extractors do
                time.sleep(10)

    monkeypatch.setattr("steep.corpus.formats.rtf.read_rtf", hangs)
    begun = time.monotonic()
    with pytest.raises(Unreadable) as caught:
        guarded_text("rtf:read_rtf", b"", None, max_seconds=0.2)
    assert time.monotonic() - begun < 8
    assert caught.value.reason == "too_slow"
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_truncated_file_keeps_what_came_before(tmp_path: Path) -> None:
    records = [{"text": f"{number} {random.Random(number).random()} {PROSE}"} for number in range(2000)]
    packed = gzip.compress(lines_of(*records).encode())
    documents, drops = read(write(tmp_path / "a.jsonl.gz", packed[: len(packed) // 2]))
    assert len(documents) > 100
    assert [document.text for document in documents] == [record["text"] for record in records[: len(documents)]]
    assert [drop.reason for drop in drops][-1] == "corrupt"
    text = paragraphs_of(400_000)
    packed = gzip.compress(text.encode())
    documents, drops = read(write(tmp_path / "b.txt.gz", packed[: len(packed) // 2]))
    assert [(drop.origin, drop.reason, drop.text_bytes) for drop in drops] == [("b.txt.gz:rest", "corrupt", 0)]
    assert text.startswith(documents[0].text)
    assert len(documents[0].text) > 100_000


def test_every_format_has_one_reader() -> None:
    tables = (STREAM_READERS, RECORD_READERS, WHOLE_READERS)
    assert sorted(name for table in tables for name in table) == sorted(FORMATS)
    for reader in (reader for table in tables for reader in table.values()):
        module, _, function = reader.partition(":")
        assert callable(getattr(import_module(f"steep.corpus.formats.{module}"), function))


def test_reasons_are_sentences() -> None:
    assert set(REASONS) >= FAILURES
    assert all(sentence[0].islower() and not sentence.endswith(".") for sentence in REASONS.values())


def test_every_byte_of_text_is_in_a_document_or_a_drop(tmp_path: Path) -> None:
    """The law of the room, on a directory with good and bad things in it."""
    write(tmp_path / "a.txt", paragraphs_of(30_000))
    write(tmp_path / "b.txt", " \n" * 500)
    write(tmp_path / "c.txt", paragraphs_of(LARGE_TEXT_BYTES + 1))
    write(tmp_path / "d.pdf", b"%PDF-1.4 damaged")
    for split in ("file", "paragraphs"):
        documents, drops = read(tmp_path, split_documents=split)
        total = sum(text_bytes(item.text) for item in documents) + sum(drop.text_bytes for drop in drops)
        assert total == sum(path.stat().st_size for path in tmp_path.iterdir())


@pytest.mark.parametrize("name", ["big.jsonl.gz", "big.txt"])
def test_memory_stays_small_whatever_the_size(tmp_path: Path, name: str) -> None:
    """80 MB of records, or of text, in a process that may not grow by half of it."""
    line = lines_of({"text": PROSE * 4}).encode()
    with (
        gzip.open(tmp_path / name, "wb", compresslevel=1) if name.endswith("gz") else open(tmp_path / name, "wb") as out
    ):
        for _ in range(40):
            out.write(line * (2_000_000 // len(line)))
    program = """
import resource, sys
from pathlib import Path
from steep.corpus.extract import extract
from steep.corpus.sources import list_files
from steep.spec.job import Source
source = Source(path=sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = sum(len(item.text) for file in list_files("s", source) for item in extract(file, source))
print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / name)], capture_output=True, text=True, check=True
    )
    total, grown = map(int, done.stdout.split())
    grown_bytes = grown * (1 if sys.platform == "darwin" else 1024)
    assert total > 75_000_000
    assert grown_bytes < 40_000_000
