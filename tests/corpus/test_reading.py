"""A unit that was read in part: what is there of it is kept, as long as the same documents come again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steep.corpus import reading
from steep.corpus.document import Document, Drop, document_id
from steep.corpus.parts import Part
from steep.corpus.reading import Steps, make_units, read_unit
from steep.corpus.sources import list_files
from steep.spec.job import Cleaning, Source

TEXTS = {name: f"The text of file {name} is one that nobody cleans away. " * 4 for name in "abcdefgh"}


class Extractor:
    """Reads files; some of them are too slow, and at one of them it is interrupted."""

    def __init__(self, slow: str = "", ends_at: str = "") -> None:
        self.slow, self.ends_at = slow, ends_at

    def __call__(self, file: Any, source: Source) -> Iterator[Document | Drop]:
        name = Path(file.path).stem
        if name == self.ends_at:
            raise KeyboardInterrupt
        found, origin = document_id("text", file.path), file.path
        if name in self.slow:
            yield Drop(found, "text", origin, "extract", "too_slow", file.size_bytes, "took over 300 seconds to read")
        else:
            yield Document(found, TEXTS[name], "text", origin)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def read(folder: Path, monkeypatch: pytest.MonkeyPatch, extractor: Extractor) -> list[Part]:
    """Read the only unit of a folder, two documents a part."""
    source = Source(path=str(folder))
    steps = Steps(Cleaning(), near=False, runs=False)
    (unit,) = make_units(folder.with_name("work"), source, list_files("text", source), steps)
    monkeypatch.setattr(reading, "PART_BYTES", 2 * len(TEXTS["a"]))
    monkeypatch.setattr(reading, "extract", extractor)
    read_unit(unit)
    return unit.parts


def texts(parts: list[Part]) -> list[str]:
    sizes = [len(part.marks("text_bytes")["text_bytes"]) for part in parts]
    found = [part.texts(np.ones(size, np.bool_)) for part, size in zip(parts, sizes, strict=True)]
    return [text.strip() for rows in found for _, text in rows]


def test_parts_that_are_there_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        read(folder, monkeypatch, Extractor(slow="b", ends_at="f"))
    there = {path: path.stat().st_mtime_ns for path in folder.with_name("work").rglob("marks-*")}
    assert len(there) == 2
    parts = read(folder, monkeypatch, Extractor(slow="b"))
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert texts(parts) == [text.strip() for name, text in TEXTS.items() if name != "b"]


@pytest.mark.parametrize(("slow", "slow_then"), [("b", ""), ("", "b"), ("ad", "c")])
def test_a_file_that_is_slow_only_once_neither_doubles_nor_loses_a_document(
    folder: Path, monkeypatch: pytest.MonkeyPatch, slow: str, slow_then: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        read(folder, monkeypatch, Extractor(slow, ends_at="h"))
    parts = read(folder, monkeypatch, Extractor(slow_then))
    assert texts(parts) == [text.strip() for name, text in TEXTS.items() if name not in slow_then]
    dropped = [row for part in parts for batch in part.drops() for row in batch.to_pylist()]
    assert [Path(row["origin"]).stem for row in dropped] == list(slow_then)
