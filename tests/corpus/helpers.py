"""What the tests of extraction share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steep.corpus.document import Document, Drop
from steep.corpus.extract import REASONS, extract
from steep.corpus.sources import list_files
from steep.spec.job import Source

PROSE = "It was a bright cold day in April, and the clocks were striking thirteen. " * 3


def lines_of(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def read(path: Path | str, **options: Any) -> tuple[list[Document], list[Drop]]:
    """All that comes out of a source: documents and drops."""
    source = Source(path=str(path), **options)
    items = [item for file in list_files("source", source) for item in extract(file, source)]
    documents = [item for item in items if isinstance(item, Document)]
    drops = [item for item in items if isinstance(item, Drop)]
    assert len({item.id for item in items}) == len(items)
    assert all(drop.step == "extract" and drop.reason in REASONS and drop.text_bytes >= 0 for drop in drops)
    assert all(document.text.encode("utf-8") and document.source == "source" for document in documents)
    return documents, drops


def text_of(path: Path | str, **options: Any) -> str:
    """The text of a source of one document and no drops."""
    documents, drops = read(path, **options)
    assert not drops, drops
    assert len(documents) == 1
    return documents[0].text


def reason_of(path: Path | str, **options: Any) -> str:
    """The reason why nothing came out."""
    documents, drops = read(path, **options)
    assert not documents, documents[0].text[:200]
    assert len(drops) == 1, drops
    return drops[0].reason


def write(path: Path, content: str | bytes) -> Path:
    """Write a file and whatever directory it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
