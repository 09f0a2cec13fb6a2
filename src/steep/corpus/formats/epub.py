"""E-books: the chapters in the order of the spine."""

from __future__ import annotations

import posixpath
import zipfile
from urllib.parse import unquote

from steep.corpus.formats.content import Unreadable
from steep.corpus.formats.html import decode_page
from steep.corpus.formats.markdown import join_blocks, parse_html, to_markdown
from steep.corpus.formats.office import open_package
from steep.corpus.formats.xml import parse_xml

_PAGES = ("application/xhtml+xml", "text/html")


def read_epub(data: bytes, _encoding: str | None) -> str:
    """The book's text as Markdown. Raises Unreadable when it is no e-book, or its rights are protected."""
    with open_package(data) as archive:
        names = set(archive.namelist())
        if "META-INF/rights.xml" in names or ("META-INF/encryption.xml" in names and _is_locked(archive)):
            raise Unreadable("encrypted", "is protected by digital rights management")
        pages = [page for page in _spine(archive) if page in names]
        return join_blocks(to_markdown(parse_html(decode_page(archive.read(page), None))) for page in pages)


def _spine(archive: zipfile.ZipFile) -> list[str]:
    """Paths of the pages in reading order, without the one that is only the table of contents."""
    try:
        container = parse_xml(archive.read("META-INF/container.xml"))
        package_path = str(container.find(".//{*}rootfile").get("full-path"))
        package = parse_xml(archive.read(package_path))
    except (KeyError, AttributeError) as error:
        raise Unreadable("corrupt", f"is no e-book: {error}") from error
    base = posixpath.dirname(package_path)
    items = {item.get("id"): item for item in package.iterfind(".//{*}manifest/{*}item")}
    spine = [items[ref.get("idref")] for ref in package.iterfind(".//{*}spine/{*}itemref") if ref.get("idref") in items]
    return [
        posixpath.normpath(posixpath.join(base, unquote(item.get("href"))))
        for item in spine
        if item.get("media-type") in _PAGES and "nav" not in (item.get("properties") or "").split()
    ]


def _is_locked(archive: zipfile.ZipFile) -> bool:
    """Whether something other than fonts is encrypted."""
    encryption = parse_xml(archive.read("META-INF/encryption.xml"))
    references = [str(each.get("URI")) for each in encryption.iterfind(".//{*}CipherReference")]
    return any(path.lower().endswith((".xhtml", ".html", ".htm")) for path in references)
