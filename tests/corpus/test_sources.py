"""Sources: which files they have, and by which names they go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.corpus.helpers import write

from steep.corpus.formats.registry import FORMATS, format_by_content, format_by_name, is_known, suffixes
from steep.corpus.patterns import matches, split_at_wildcard
from steep.corpus.sources import list_files, name_sources, names_its_files
from steep.spec.errors import InvalidCorpus
from steep.spec.job import Source


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory of all sorts."""
    for name in (
        *("a.txt", "b.md", "deep/c.rst", "deep/er/d.jsonl.zst", "drafts/e.md", "code/f.py", "data.tar.gz"),
        *("picture.png", "noise.bin", ".hidden/g.txt", ".env", "Makefile", "table.bin.gz"),
    ):
        write(tmp_path / name, "text")
    return tmp_path


def names(path: Path | str, root: Path, **options: object) -> list[str]:
    source = Source(path=str(path), **options)  # type: ignore[arg-type]
    return [str(Path(file.path).relative_to(root)) for file in list_files("s", source)]


def test_a_directory_gives_its_known_formats_sorted(tree: Path) -> None:
    known = [
        "Makefile",
        "a.txt",
        "b.md",
        "code/f.py",
        "data.tar.gz",
        "deep/c.rst",
        "deep/er/d.jsonl.zst",
        "drafts/e.md",
    ]
    assert names(tree, tree) == known
    assert names(f"file://{tree}", tree) == known


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": ["*.md"]}, ["b.md", "drafts/e.md"]),
        ({"include": ["**/*.md"], "exclude": ["drafts/"]}, ["b.md"]),
        ({"include": ["deep/**"]}, ["deep/c.rst", "deep/er/d.jsonl.zst"]),
        ({"include": ["*.bin"]}, ["noise.bin"]),
        ({"include": ["**/*"], "exclude": ["deep/", "code/", "*.*"]}, ["Makefile"]),
    ],
)
def test_include_and_exclude(tree: Path, options: dict[str, list[str]], expected: list[str]) -> None:
    assert names(tree, tree, **options) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.md", ["b.md"]),
        ("**/*.md", ["b.md", "drafts/e.md"]),
        ("[ab].*", ["a.txt", "b.md"]),
        ("dee*", ["deep/c.rst", "deep/er/d.jsonl.zst"]),
        ("*.bin", ["noise.bin"]),
    ],
)
def test_globs(tree: Path, pattern: str, expected: list[str]) -> None:
    assert names(f"{tree}/{pattern}", tree) == expected


def test_a_file_that_is_named_is_always_taken(tree: Path) -> None:
    assert names(tree / "noise.bin", tree) == ["noise.bin"]
    odd = write(tree / "odd [name]*.txt", "text")
    assert names(odd, tree) == ["odd [name]*.txt"]


def test_missing_and_empty_sources_are_errors(tree: Path) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(InvalidCorpus, match="no such file or directory"):
        list_files("s", Source(path=str(tree / "nowhere")))
    with pytest.raises(InvalidCorpus, match="no files in a format"):
        list_files("s", Source(path=str(tree / "empty")))
    with pytest.raises(InvalidCorpus, match="no files that `include` names"):
        list_files("s", Source(path=str(tree), include=("*.pdf",)))
    with pytest.raises(InvalidCorpus, match="no files"):
        list_files("s", Source(path=f"{tree}/*.nothing"))


def test_a_version_changes_with_the_file(tree: Path) -> None:
    source = Source(path=str(tree / "a.txt"))
    before = list_files("s", source)[0]
    assert list_files("s", source)[0] == before
    os.utime(tree / "a.txt", ns=(1, 1))
    assert list_files("s", source)[0].version != before.version


def test_links_are_followed_once(tree: Path) -> None:
    (tree / "deep" / "loop").symlink_to(tree, target_is_directory=True)
    (tree / "link.txt").symlink_to(tree / "a.txt")
    (tree / "broken.txt").symlink_to(tree / "nowhere.txt")
    found = names(tree, tree)
    assert "link.txt" in found
    assert "broken.txt" not in found
    assert len(found) == 9


def test_names_are_unique_and_fit_for_directories() -> None:
    paths = [
        "/x/docs",
        "/y/docs",
        "/z/Docs/",
        "a/b.jsonl.gz",
        "s3://bucket/kb/*.pdf",
        "hf://org/data@v2",
        "/x/*.md",
        "self",
    ]
    assert list(name_sources([Source(path=path) for path in paths])) == [
        *("docs", "docs-2", "Docs-3", "b", "kb", "data", "x", "self-2"),
    ]
    assert list(name_sources([Source(path="a", name="My text/№ 1")])) == ["My-text-1"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a/b.jsonl", True), ("a/*.jsonl.gz", True), ("s3://b/x.parquet", True), ("s3://b/x", False), ("a/**", False)],
)
def test_whether_a_path_names_its_files(path: str, expected: bool) -> None:
    assert names_its_files(Source(path=path)) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(
            ("a.TXT", "text"),
            ("a.tar.gz", "gz"),
            ("a.tgz", "gz"),
            ("README", "text"),
            ("a.ipynb", "notebook"),
            ("a", None),
        ),
        *(("a.png", None), ("dir.txt/a.Rmd", None), ("a.v1.jsonl", "jsonl"), ("dir\\a.md", "text"), ("a.nxml", "xml")),
    ],
)
def test_formats_by_name(name: str, expected: str | None) -> None:
    assert format_by_name(name) == expected


def test_a_compressed_file_is_known_when_its_content_is() -> None:
    assert is_known("a.jsonl.gz")
    assert is_known("a.tar.zst")
    assert not is_known("a.bin.gz")
    assert suffixes("a.b.tbz2") == ["bz2", "tar", "b"]


def test_no_ending_belongs_to_two_formats() -> None:
    endings = [ending for endings in FORMATS.values() for ending in endings]
    assert len(endings) == len(set(endings))


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"%PDF-1.7", "pdf"),
        (b"<!DOCTYPE html>", "html"),
        (b"<?xml version='1.0'?><a/>", "xml"),
        (b'{"text": "x"}', "jsonl"),
        (b"plain words", "text"),
        (b"\x00\x01", None),
        (b"PK\x03\x04" + bytes(26) + b"word/document.xml", "docx"),
        (b"PK\x03\x04" + bytes(26) + b"password/a.txt", "zip"),
        (b"PK\x03\x04" + b"x" * 26 + b"mimetypeapplication/epub+zip", "epub"),
        (b"PK\x03\x04" + b"notes.txt", "zip"),
    ],
)
def test_formats_by_content(head: bytes, expected: str | None) -> None:
    assert format_by_content(head) == expected


def test_patterns() -> None:
    assert matches("a/b/c.md", ["*.md"])
    assert not matches("a/b/c.md", ["*.md"], anchored=True)
    assert matches("a/b/c.md", ["a/**/*.md"])
    assert matches("a/c.md", ["a/**/c.md"])
    assert matches("a/tests/x", ["tests/"])
    assert matches("b.md", ["[!a].md"])
    assert split_at_wildcard("a/b/c*.md") == ("a/b/", "c*.md")
    assert split_at_wildcard("a/b/c.md") == ("a/b/", "c.md")
