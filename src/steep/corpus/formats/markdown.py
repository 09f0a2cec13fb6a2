"""HTML to Markdown, and the tidying that all formats share: headings, lists, tables and code kept, links as their words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")
_LINE_SPACE = re.compile(r"[ \t]+$", re.MULTILINE)
_BLOCK_TAGS = ["table", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "ul", "ol", "blockquote"]
_CELL_CHARACTERS = 600  # in a longer cell there is an article, not a value
_TABLE_CLASS = "steep-table"
_FENCES = re.compile(r"^(```.*?^```)[ \t]*$", re.MULTILINE | re.DOTALL)


def parse_html(html: str) -> Any:
    """A page or fragment as a tree (BeautifulSoup)."""
    from bs4 import BeautifulSoup

    return BeautifulSoup(html, "lxml")


def to_markdown(soup: Any) -> str:
    """The text of a page as Markdown, without images, scripts and addresses of links. The tree is used up."""
    for tag in soup(["script", "style", "noscript", "template", "svg", "iframe", "head"]):
        tag.decompose()
    _settle_tables(soup)
    return tidy(str(_converter().convert_soup(soup)))


@lru_cache(maxsize=1)
def _converter() -> Any:
    from markdownify import MarkdownConverter

    class Converter(MarkdownConverter):
        """Markdownify's, which leaves tables that are Markdown already as they are."""

        def convert_pre(self, element: Any, text: str, parent_tags: set[str]) -> str:
            """A block of code, or a table."""
            if _TABLE_CLASS in (element.get("class") or []):
                return f"\n\n{text}\n\n"
            return str(super().convert_pre(element, text, parent_tags))  # type: ignore[misc]

    return Converter(
        heading_style="ATX",
        bullets="-",
        strip=["a", "img", "button", "input", "select"],
        escape_asterisks=False,
        escape_underscores=False,
        escape_misc=False,
        wrap=True,  # so that lines broken in the source are joined
        wrap_width=None,
        code_language_callback=_language,
    )


def _settle_tables(soup: Any) -> None:
    """Write tables of data as Markdown, and open those that only lay out a page."""
    for element in soup.find_all("table")[::-1]:  # the inner ones first
        rows = [row.find_all(["td", "th"]) for row in element.find_all("tr")]
        if element.find(_BLOCK_TAGS) is None and sum(map(len, rows)) > 1 and not _is_layout(rows):
            text = table([[cell.get_text(" ") for cell in row] for row in rows])
            caption = element.find("caption")
            written = soup.new_tag("pre", attrs={"class": _TABLE_CLASS})
            written.string = (caption.get_text(" ", strip=True) + "\n\n" if caption else "") + text
            element.replace_with(written)
            continue
        for tag in element.find_all(["tr", "td", "th", "tbody", "thead", "tfoot"]):
            tag.name = "div"
        element.name = "div"


def _is_layout(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether a cell is longer than one of data would be."""
    return max((len(cell.get_text(" ", strip=True)) for row in rows for cell in row), default=0) > _CELL_CHARACTERS


def tidy(text: str) -> str:
    """The text without space at line ends and without more than one blank line in a row, except in fenced code."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ")
    parts = _FENCES.split(text)
    parts[::2] = [_BLANK_LINES.sub("\n\n", _LINE_SPACE.sub("", part)) for part in parts[::2]]
    return "".join(parts).strip()


def join_blocks(blocks: Iterable[str]) -> str:
    """Blocks of text with a blank line between them; empty ones stay out."""
    return tidy("\n\n".join(stripped for block in blocks if (stripped := block.strip("\n \t"))))


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first row the head; columns and rows that are empty everywhere stay out.

    A table of one column is written as lines.
    """
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    cells = [row for row in cells if any(row)]
    if not cells:
        return ""
    width = max(map(len, cells))
    cells = [row + [""] * (width - len(row)) for row in cells]
    kept = [column for column in range(width) if any(row[column] for row in cells)]
    if len(kept) == 1:
        return "\n".join(row[kept[0]] for row in cells)
    lines = ["| " + " | ".join(row[column] for column in kept) + " |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * len(kept), *lines[1:]])


def fenced(code: str, language: str = "") -> str:
    """A block of code, fenced by more backticks than it holds in a row."""
    longest = max((len(run) for run in re.findall(r"`{3,}", code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{code.strip(chr(10))}\n{fence}"


def _language(element: object) -> str:
    """The language of a `pre`, from the class that highlighters give it or its code."""
    classes: list[str] = []
    for each in (element, *getattr(element, "find_all", lambda *_: [])("code")):
        classes += getattr(each, "attrs", {}).get("class", [])
    found = [name.partition("-")[2] for name in classes if name.startswith(("language-", "lang-", "highlight-"))]
    return found[0] if found else ""
