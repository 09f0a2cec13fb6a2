"""OpenDocument text and slides: headings, paragraphs, lists and tables in their order."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from steep.corpus.formats.markdown import join_blocks, table
from steep.corpus.formats.office import open_package

_LEFT_OUT = frozenset(("annotation", "tracked-changes", "sequence-decls", "forms", "table-of-content", "note-citation"))


def read_odt(data: bytes, _encoding: str | None) -> str:
    """The document's text. Raises Unreadable, and whatever the extractor does with a damaged file."""
    from odf.opendocument import load

    open_package(data).close()
    return join_blocks(_blocks(load(io.BytesIO(data)).body))


def _blocks(element: Any, list_depth: int = 0) -> Iterator[str]:
    for child in element.childNodes:
        kind = _kind(child)
        if kind in _LEFT_OUT:
            continue
        if kind == "h":
            level = int(child.getAttribute("outlinelevel") or 1)
            yield "#" * min(level, 6) + " " + _inline(child) if _inline(child).strip() else ""
        elif kind == "p":
            yield _inline(child)
        elif kind == "list":
            yield "\n".join(_items(child, list_depth))
        elif kind == "table":
            yield table([[_inline_all(cell) for cell in row] for row in _rows(child)])
        else:
            yield from _blocks(child, list_depth)


def _items(listing: Any, depth: int) -> Iterator[str]:
    for item in listing.childNodes:
        if _kind(item) not in ("list-item", "list-header"):
            continue
        for child in item.childNodes:
            if _kind(child) == "list":
                yield from _items(child, depth + 1)
            elif (text := _inline(child).strip()) != "":
                yield "  " * depth + "- " + text


def _rows(element: Any) -> Iterator[list[Any]]:
    for child in element.childNodes:
        if _kind(child) == "table-row":
            yield [cell for cell in child.childNodes if _kind(cell) in ("table-cell", "covered-table-cell")]
        elif _kind(child) in ("table-header-rows", "table-rows", "table-row-group"):
            yield from _rows(child)


def _inline(element: Any) -> str:
    """The text of a paragraph, with its tabs, spaces and line breaks."""
    if element.nodeType == element.TEXT_NODE:
        return str(element.data)
    kind = _kind(element)
    if kind in _LEFT_OUT:
        return ""
    if kind == "s":
        return " " * int(element.getAttribute("c") or 1)
    if kind in ("tab", "line-break"):
        return "\t" if kind == "tab" else "\n"
    text = "".join(_inline(child) for child in element.childNodes)
    return f" ({text.strip()})" if kind == "note" else text


def _inline_all(element: Any) -> str:
    return " ".join(_inline(child) for child in element.childNodes)


def _kind(element: Any) -> str:
    """An element's local name: `p` of `text:p`."""
    return str(element.qname[1]) if element.nodeType == element.ELEMENT_NODE else ""
