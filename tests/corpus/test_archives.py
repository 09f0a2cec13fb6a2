"""Compressed files and archives: everything in them, nothing outside them, and no bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from tests.corpus.helpers import read, reason_of, text_of, write

from steep.corpus.extract import FAILURES
from steep.corpus.formats import limits
from steep.corpus.formats.limits import Allowance

TEXT = "A text of some length, with ä and 漢字.\n\nAnd a second paragraph.\n"
PACK = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zst": zstandard.ZstdCompressor().compress,
}


def zipped(files: dict[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(files: dict[str, bytes | str], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("kind", list(PACK))
def test_compressed_files_with_one_part_and_with_many(tmp_path: Path, kind: str) -> None:
    data = TEXT.encode()
    assert text_of(write(tmp_path / f"a.txt.{kind}", PACK[kind](data))) == TEXT
    if kind != "lzma":  # which has no second part
        several = PACK[kind](data[:30]) + PACK[kind](data[30:])
        assert text_of(write(tmp_path / f"b.txt.{kind}", several)) == TEXT
    assert text_of(write(tmp_path / f"c.{kind}", PACK[kind](data))) == TEXT


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.tar.zst"])
def test_archives_give_their_members_in_any_format(tmp_path: Path, name: str) -> None:
    table = io.BytesIO()
    pq.write_table(pa.table({"text": ["in a table", "second"]}), table)
    files: dict[str, bytes | str] = {
        "docs/a.txt": TEXT,
        "docs/lines.jsonl.gz": gzip.compress(json.dumps({"text": "a line"}).encode()),
        "table.parquet": table.getvalue(),
        "inner.zip": zipped({"deep.md": "# Deep"}),
        "picture.png": b"\x89PNG",
        "__MACOSX/._a.txt": b"\0\1",
        ".git/config.txt": "hidden",
    }
    data = zipped(files) if name == "a.zip" else tarred(files)
    for end in name.removesuffix(".tgz").split(".")[2:] + (["gz"] if name == "a.tgz" else []):
        data = PACK[end](data)
    documents, drops = read(write(tmp_path / name, data))
    assert not drops
    assert {document.origin: document.text for document in documents} == {
        f"{name}#docs/a.txt": TEXT,
        f"{name}#docs/lines.jsonl.gz:1": "a line",
        f"{name}#table.parquet:1": "in a table",
        f"{name}#table.parquet:2": "second",
        f"{name}#inner.zip#deep.md": "# Deep",
    }


def test_include_and_exclude_reach_into_archives(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", zipped({"a.rst": "one", "b.md": "two", "drafts/c.rst": "three"}))

    def names(**options: object) -> list[str]:
        return [document.origin.partition("#")[2] for document in read(**options)[0]]  # type: ignore[arg-type]

    assert names(path=path) == ["a.rst", "b.md", "drafts/c.rst"]
    assert names(path=path, include=["**/*.rst"], exclude=["drafts/"]) == ["a.rst"]
    assert names(path=tmp_path, include=["*.zip"], exclude=["*.md"]) == ["a.rst", "drafts/c.rst"]


@pytest.mark.parametrize("name", ["../../outside.txt", "/absolute.txt", "C:\\outside.txt", "a/../../b.txt"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_paths_that_climb_out_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    files: dict[str, bytes | str] = {name: "stolen", "fine.txt": "fine"}
    documents, drops = read(write(tmp_path / f"a.{kind}", zipped(files) if kind == "zip" else tarred(files)))
    assert [document.text for document in documents] == ["fine"]
    assert [drop.reason for drop in drops] == ["unsafe_path"]
    assert list(tmp_path.iterdir()) == [tmp_path / f"a.{kind}"]


def test_links_in_archives_are_not_followed(tmp_path: Path) -> None:
    secret = write(tmp_path / "elsewhere" / "secret.txt", "secret")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
        pipe = tarfile.TarInfo("pipe.txt")
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)
    documents, drops = read(write(tmp_path / "a.tar", out.getvalue()))
    assert not documents
    assert [drop.reason for drop in drops] == ["unsafe_path", "unsupported"]


def test_encrypted_members(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.txt": "locked", "b.txt": "open"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag in both headers of the first member
        data[data.index(signature) + offset] |= 1
    documents, drops = read(write(tmp_path / "a.zip", bytes(data)))
    assert [document.text for document in documents] == ["open"]
    assert [(drop.origin, drop.reason) for drop in drops] == [("a.zip#a.txt", "encrypted")]


def test_a_damaged_member_does_not_take_the_others_along(tmp_path: Path) -> None:
    noise = random.Random(3).randbytes(3000).hex()
    data = bytearray(zipped({"a.txt": noise, "b.txt": "fine"}))
    data[600:700] = bytes(100)
    documents, drops = read(write(tmp_path / "a.zip", bytes(data)))
    assert documents[-1].text == "fine"
    assert [drop.reason for drop in drops] == ["corrupt"]


def test_a_truncated_tar_keeps_its_first_members(tmp_path: Path) -> None:
    data = tarred({"a.txt": TEXT, "b.txt": "x " * 5000, "c.txt": TEXT})
    documents, drops = read(write(tmp_path / "a.tar", data[: len(data) // 2 - 2000]))
    assert documents[0].text == TEXT
    assert "corrupt" in {drop.reason for drop in drops}


@pytest.mark.parametrize("kind", ["gz", "zst", "zip", "tar.gz"])
def test_bombs_stop_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(limits, "SAFE_BYTES", 4 << 20)
    monkeypatch.setattr(limits, "MAX_RATIO", 100)
    endless = b'{"text": "' + b"a" * 100 + b'"}\n'
    endless *= 70_000
    data = {
        "gz": lambda: PACK["gz"](endless),
        "zst": lambda: PACK["zst"](endless),
        "zip": lambda: zipped({"bomb.jsonl": endless, "b.jsonl": endless, "c.jsonl": endless}),
        "tar.gz": lambda: PACK["gz"](tarred({"bomb.jsonl": endless})),
    }[kind]()
    name = f"a.jsonl.{kind}" if kind in ("gz", "zst") else f"a.{kind}"
    documents, drops = read(write(tmp_path / name, data))
    assert [drop.reason for drop in drops if drop.reason in FAILURES] == ["archive_bomb"]
    assert len(documents) * 100 <= max(4 << 20, 100 * len(data))


def test_office_bombs_are_seen_before_they_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steep.corpus.formats.limits.SAFE_BYTES", 1 << 20)
    bomb = zipped({"[Content_Types].xml": "<Types/>", "word/document.xml": b" " * (4 << 20)})
    assert reason_of(write(tmp_path / "a.docx", bomb)) == "archive_bomb"


def test_packed_again_and_again(tmp_path: Path) -> None:
    data = TEXT.encode()
    for _ in range(12):
        data = gzip.compress(data)
    assert reason_of(write(tmp_path / ("a.txt" + ".gz" * 12), data)) == "archive_bomb"


def test_an_archive_with_nothing_to_read(tmp_path: Path) -> None:
    assert reason_of(write(tmp_path / "a.zip", zipped({"a.png": b"\x89PNG"}))) == "empty"


def test_honest_text_may_be_packed_tightly() -> None:
    allowance = Allowance(packed_bytes=1000)
    allowance.spend(limits.SAFE_BYTES)
    assert not allowance.is_spent
