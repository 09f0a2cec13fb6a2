"""Word documents: headings, lists, tables and footnotes as Markdown; no headers, footers, comments and pictures."""

from __future__ import annotations

import io

from steep.corpus.formats.markdown import parse_html, to_markdown
from steep.corpus.formats.office import open_package


def read_docx(data: bytes, _encoding: str | None) -> str:
    """The document's text. Raises Unreadable, and whatever the extractor does with a damaged file."""
    import mammoth

    open_package(data).close()
    html = mammoth.convert_to_html(io.BytesIO(data), convert_image=mammoth.images.img_element(lambda _image: {}))
    return to_markdown(parse_html(str(html.value)))
