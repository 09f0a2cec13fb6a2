"""XML: journal articles (JATS) with their sections, and of anything else the text of its elements in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from steep.corpus.formats.content import Unreadable
from steep.corpus.formats.markdown import join_blocks, table

# what in an article is not its text
_LEFT_OUT = frozenset(
    ("ref-list", "ref", "permissions", "object-id", "graphic", "media", "supplementary-material", "fn-group", "label")
)
_PARAGRAPHS = frozenset(("p", "disp-quote", "verse-line", "def", "term", "speaker", "attrib", "preformat", "code"))
_SET_OFF = frozenset(("fig", "fig-group", "table-wrap", "list", "boxed-text"))
_PROSE = frozenset(
    ("p", "para", "text", "title", "head", "line", "item", "entry", "body", "abstract", "summary", "content")
)
_LABELLED_CHARACTERS = 100  # a value of up to so many reads better with its name
_TEX = re.compile(r"\\begin\{document\}(.*?)\\end\{document\}", re.DOTALL)


def parse_xml(data: bytes) -> Any:
    """The root element. No entity is resolved, nothing is fetched, and comments and instructions are left out.

    Raises:
        Unreadable: it is not well-formed.
    """
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise Unreadable("corrupt", f"is not well-formed: {error}") from error


def read_xml(data: bytes, encoding: str | None) -> str:
    """The document's text. Raises Unreadable when it is not well-formed."""
    root = parse_xml(data if encoding is None else _declared(data, encoding))
    article = root if _name(root) == "article" else root.find(".//{*}article")
    if article is not None and article.find("{*}front") is not None:
        return join_blocks(_article(article))
    if _name(root) == "html":
        from steep.corpus.formats.html import read_html

        return read_html(data, encoding)
    return join_blocks(_elements(root))


def _declared(data: bytes, encoding: str) -> bytes:
    """The document in UTF-8, without the declaration that says otherwise."""
    text = data.decode(encoding, "replace")
    return re.sub(r"^\ufeff?\s*<\?xml[^>]*\?>", "", text).encode("utf-8")


# ------------------------------------------------------------------------------------------------------------ articles


def _article(article: Any) -> Iterator[str]:
    title = article.find(".//{*}front//{*}title-group/{*}article-title")
    if title is not None:
        yield "# " + _inline(title)
    for abstract in article.iterfind(".//{*}front//{*}abstract"):
        if abstract.get("abstract-type") in (None, "summary", "executive-summary"):
            heading = abstract.find("{*}title")
            yield "## " + ("Abstract" if heading is None else _inline(heading))
            yield from _blocks(abstract, 3, skip_title=True)
    body = article.find("{*}body")
    if body is not None:
        yield from _blocks(body, 2)


def _blocks(element: Any, level: int, *, skip_title: bool = False) -> Iterator[str]:
    """Headings, paragraphs, lists and tables below an element."""
    for child in element:
        if _name(child) not in _LEFT_OUT and not (skip_title and _name(child) == "title"):
            yield from _block(child, level)


def _block(element: Any, level: int) -> Iterator[str]:
    name = _name(element)
    if name == "title":
        heading = _inline(element)
        yield "#" * min(level - 1, 6) + " " + heading if heading else ""
    elif name in _PARAGRAPHS:
        yield from _paragraph(element, level)
    elif name == "sec":
        yield from _blocks(element, level + 1)
    elif name == "list":
        yield "\n".join("- " + " ".join(_blocks(item, level)) for item in element.iterfind("{*}list-item"))
    elif name == "table":
        yield table([[_inline(cell) for cell in row] for row in element.iter("{*}tr")])
    elif name == "disp-formula":
        yield _inline(element)
    else:
        yield from _blocks(element, level)


def _paragraph(element: Any, level: int) -> Iterator[str]:
    """A paragraph, and after it the figures, tables and lists that were put inside it."""
    blocks = [child for child in element if _name(child) in _SET_OFF]
    yield _inline(element, blocks)
    for block in blocks:
        yield from _block(block, level)


def _inline(element: Any, without: list[Any] | None = None) -> str:
    return " ".join("".join(_words(element, without or [])).split())


def _words(element: Any, without: list[Any]) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if child not in without:
            name = _name(child)
            if name in ("tex-math", "math"):
                yield _formula(child, name)
            elif name == "alternatives":
                best = child.find("{*}tex-math")
                yield "".join(_words(child, [])) if best is None else _formula(best, "tex-math")
            elif name not in _LEFT_OUT:
                yield from _words(child, without)
        yield child.tail or ""


def _formula(element: Any, name: str) -> str:
    text = "".join(element.itertext())
    if name == "tex-math":
        found = _TEX.search(text)
        return found[1].strip() if found else text.strip()
    return " ".join(text.split())


# ------------------------------------------------------------------------------------------------------------ anything


def _elements(root: Any) -> Iterator[str]:
    """The text of each element that has some of its own; short values in a row are lines, each with its name."""
    values: list[str] = []
    for name, text in _texts(root):
        if len(text) <= _LABELLED_CHARACTERS and name.lower() not in _PROSE and len(name) > 2 and "\n" not in text:
            values.append(f"{name}: {text}")
            continue
        yield "\n".join(values)
        values = []
        yield text
    yield "\n".join(values)


def _texts(element: Any) -> Iterator[tuple[str, str]]:
    """Name and text of each element that has text of its own, with what is in it; the elements around it give none."""
    pending = [element]
    while pending:
        element = pending.pop()
        if not isinstance(element.tag, str):
            continue
        if (element.text or "").strip() or any((child.tail or "").strip() for child in element):
            yield _name(element), _lines("".join(element.itertext()))
        else:
            pending += reversed(element)


def _lines(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())


def _name(element: Any) -> str:
    """An element's name without its namespace; of what is no element none."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
