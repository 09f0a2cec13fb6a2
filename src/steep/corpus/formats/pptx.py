"""Slides: title, text, tables and speaker's notes of each, in reading order."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from steep.corpus.formats.markdown import join_blocks, table
from steep.corpus.formats.office import open_package


def read_pptx(data: bytes, _encoding: str | None) -> str:
    """The presentation's text, each slide's title a heading. Raises Unreadable, and whatever the extractor does."""
    from pptx import Presentation

    open_package(data).close()
    slides = Presentation(io.BytesIO(data)).slides
    return join_blocks(block for slide in slides for block in _slide(slide))


def _slide(slide: Any) -> Iterator[str]:
    title = slide.shapes.title
    if title is not None and title.has_text_frame:
        yield "## " + " ".join(title.text_frame.text.split()) if title.text_frame.text.strip() else ""
    yield from _shapes(shape for shape in slide.shapes if title is None or shape.shape_id != title.shape_id)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        yield slide.notes_slide.notes_text_frame.text


def _shapes(shapes: Iterable[Any]) -> Iterator[str]:
    """Text of shapes from top to bottom, and from left to right within a row; groups opened."""
    for shape in sorted(shapes, key=lambda shape: (shape.top or 0, shape.left or 0)):
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes)
        elif getattr(shape, "has_table", False) and shape.has_table:
            yield table([[cell.text for cell in row.cells] for row in shape.table.rows])
        elif shape.has_text_frame and not _is_furniture(shape):
            yield "\n".join(_paragraph(paragraph) for paragraph in shape.text_frame.paragraphs)


def _paragraph(paragraph: Any) -> str:
    text = " ".join(paragraph.text.split())
    return "  " * paragraph.level + "- " + text if text and paragraph.level else text


def _is_furniture(shape: Any) -> bool:
    """Whether a shape is a date, a footer or a slide number."""
    if not shape.is_placeholder:
        return False
    from pptx.enum.shapes import PP_PLACEHOLDER

    furniture = (PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.SLIDE_NUMBER, PP_PLACEHOLDER.HEADER)
    return shape.placeholder_format.type in furniture
