"""Web pages: the words of the page, without its menus, banners and scripts."""

from __future__ import annotations

import re
from typing import Any

from steep.corpus.formats.encoding import decode_declared
from steep.corpus.formats.markdown import parse_html, to_markdown

_CHARSET = re.compile(rb"""<(?:meta[^>]+charset|\?xml[^>]+encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_ARTICLE_SHARE = 0.3  # of the page's words: an article with less has missed the page
_SHORT_WORDS = 100  # on a page with fewer nothing is to be searched for
_CHROME = ("nav", "header", "footer", "aside", "form", "dialog", "menu")


def read_html(data: bytes, encoding: str | None) -> str:
    """The main text of a page as Markdown.

    Where no article is found, or one that is too little of the page, it is all that is outside menus and forms.
    """
    page = decode_page(data, encoding)
    everything = to_markdown(_without_chrome(parse_html(page)))
    num_words = len(everything.split())
    if num_words < _SHORT_WORDS:
        return everything or to_markdown(parse_html(page))
    article = _article(page)
    return article if len(article.split()) >= _ARTICLE_SHARE * num_words else everything


def decode_page(data: bytes, encoding: str | None) -> str:
    """A page's characters: by the encoding given, its byte order mark, the one it declares itself, or the detected one."""
    declared = _CHARSET.search(data[:4096])
    return decode_declared(data, declared and declared[1].decode("ascii", "replace"), encoding)


def _article(page: str) -> str:
    import trafilatura

    found = trafilatura.extract(
        page,
        output_format="html",
        include_comments=False,
        include_formatting=True,
        include_links=False,
        include_images=False,
        include_tables=True,
        favor_recall=True,
    )
    return to_markdown(parse_html(found)) if found else ""


def _without_chrome(soup: Any) -> Any:
    """The page without what surrounds its text. A header within an article is the article's."""
    for tag in soup(list(_CHROME)):
        if tag.name != "header" or tag.find_parent(["article", "main", "section"]) is None:
            tag.decompose()
    return soup
