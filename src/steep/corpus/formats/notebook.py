"""Jupyter notebooks: prose as it is, code in fences, and what the code printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from steep.corpus.formats.encoding import decode
from steep.corpus.formats.markdown import fenced, join_blocks

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_IMAGES = re.compile(r"!\[[^\]]*\]\((?:attachment|data):[^)]*\)")
_REPRESENTATION = re.compile(r"^<[^<>]*>$")  # <Figure size 640x480 with 1 Axes>


def read_notebook(data: bytes, encoding: str | None) -> str:
    """The notebook as Markdown. Raises whatever the extractor does with what is no notebook."""
    import nbformat

    notebook = nbformat.reads(decode(data, encoding), as_version=4)
    language = notebook.metadata.get("language_info", {}).get("name") or notebook.metadata.get("kernelspec", {}).get(
        "language", "python"
    )
    return join_blocks(block for cell in notebook.cells for block in _cell(cell, str(language)))


def _cell(cell: Any, language: str) -> Iterator[str]:
    source = str(cell.source)
    if cell.cell_type == "markdown":
        yield _IMAGES.sub("", source)
    elif cell.cell_type == "code" and source.strip():
        yield fenced(source, language)
        printed = "\n".join(filter(None, (_printed(output) for output in cell.get("outputs", []))))
        if printed:
            yield fenced(printed)


def _printed(output: Any) -> str:
    """The text of one output; of pictures, widgets and progress bars none."""
    if output.output_type == "stream":
        text = str(output.text)
    elif output.output_type == "error":
        text = f"{output.get('ename', '')}: {output.get('evalue', '')}"
    else:
        text = str(output.get("data", {}).get("text/plain", ""))
    text = _ANSI.sub("", text)
    lines = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]  # what stood there at last
    text = "\n".join(lines).strip("\n")
    return "" if _REPRESENTATION.match(text.strip()) else text
