"""PDF: the text layer, its lines joined to paragraphs, without what stands at the head and foot of every page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from steep.corpus.formats.content import Unreadable
from steep.corpus.formats.markdown import tidy

_SOFT_HYPHEN = "\u00ad"
_EDGE_LINES = 2  # at each end of a page, where running titles and page numbers stand
_FURNITURE_SHARE = 0.4  # of the pages: a line that comes back on so many is no text
_MIN_PAGES = 3
_PAGE_NUMBER = re.compile(
    r"(?:page\s*)?[-\u2013(]?\s*(?:\d{1,5}|[ivxlc]{1,7})\s*[-\u2013)]?(?:\s*(?:of|/)\s*\d+)?", re.IGNORECASE
)
_ITEM = re.compile(r"(?:[•◦▪●■‣·○*\u2013-]|\(?(?:\d{1,3}|[a-zA-Z])[.)]|\[\d+\])\s")
_SENTENCE_END = (".", "!", "?", ":", "”", '"', "。")
_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st", "\u00a0": " ", "\x00": None}
)
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_MAX_UNMAPPED = 0.2  # of characters: fonts that do not say which letters they draw


def read_pdf(data: bytes, _encoding: str | None) -> str:
    """The document's text. Raises Unreadable for a locked or damaged one."""
    pages = _without_furniture([_lines(text) for text in _page_texts(data)])
    words = Counter(word for page in pages for line in page for word in _WORD.findall(line.lower()))
    paragraphs: list[str] = []
    for page in pages:
        found = _paragraphs(page, words)
        if paragraphs and found and _goes_on(paragraphs[-1], found[0]):
            paragraphs[-1] = _join(paragraphs[-1], found.pop(0), words)
        paragraphs += found
    return tidy("\n".join(paragraphs))


def _page_texts(data: bytes) -> list[str]:
    import pypdfium2 as pdfium

    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower() or "security" in str(error).lower():
            raise Unreadable("encrypted", "is locked with a password") from error
        raise Unreadable("corrupt", f"cannot be read: {error}") from error
    try:
        texts = [_page_text(page) for page in document]
    finally:
        document.close()
    whole = "".join(texts)
    unmapped = sum("\ue000" <= character <= "\uf8ff" or character in "\x00\ufffd" for character in whole)
    if unmapped > _MAX_UNMAPPED * len(whole):
        raise Unreadable("encoding", "its fonts do not say which letters they draw")
    return texts


def _page_text(page: Any) -> str:
    text_page = page.get_textpage()
    try:
        return str(text_page.get_text_range())
    finally:
        text_page.close()
        page.close()


def _lines(text: str) -> list[str]:
    """Lines of a page; a hyphen that only breaks a word is a soft one at the end of its line."""
    text = text.replace("\ufffe", _SOFT_HYPHEN + "\n").replace("\x02", _SOFT_HYPHEN + "\n").translate(_LIGATURES)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return [line for line in lines if line]


def _without_furniture(pages: Sequence[list[str]]) -> list[list[str]]:
    """Pages without the lines that come back at the head or foot of many, whatever number is in them."""
    if len(pages) < _MIN_PAGES:
        return list(pages)
    seen = Counter(key for page in pages for key in {_key(page[at]) for at in _edges(page)})
    limit = max(_MIN_PAGES, _FURNITURE_SHARE * len(pages))
    kept = []
    for page in pages:
        out = {at for at in _edges(page) if seen[_key(page[at])] >= limit or _PAGE_NUMBER.fullmatch(page[at])}
        kept.append([line for at, line in enumerate(page) if at not in out])
    return kept


def _edges(page: Sequence[str]) -> set[int]:
    return {at for at in range(len(page)) if at < _EDGE_LINES or at >= len(page) - _EDGE_LINES}


def _key(line: str) -> str:
    return re.sub(r"\d+", "#", line.lower())


def _paragraphs(lines: Sequence[str], words: Counter[str]) -> list[str]:
    """Lines joined where one goes on in the next; a paragraph of many lines is set off by blank ones."""
    lengths = sorted(map(len, lines))
    width = lengths[int(0.9 * (len(lengths) - 1))] if lengths else 0
    groups: list[list[str]] = []
    for line in lines:
        if groups and _continues(groups[-1][-1], line, width):
            groups[-1].append(line)
        else:
            groups.append([line])
    paragraphs = []
    for group in groups:
        text = group[0]
        for line in group[1:]:
            text = _join(text, line, words)
        paragraphs.append(f"\n{text}\n" if len(group) > 1 else text)
    return paragraphs


def _continues(line: str, following: str, width: int) -> bool:
    """Whether a sentence goes on in the next line."""
    if line.endswith(_SOFT_HYPHEN):
        return True
    if _ITEM.match(following):
        return False
    if following[0] in ",.;:)" or (len(line) >= 0.5 * width and following[0].islower()):
        return True
    return len(line) >= (0.9 if line.endswith(_SENTENCE_END) else 0.75) * width and width > 40


def _goes_on(paragraph: str, following: str) -> bool:
    """Whether a paragraph goes on from one page to the next."""
    end, start = paragraph.rstrip("\n"), following.lstrip("\n")
    return end.endswith(_SOFT_HYPHEN) or (len(end) > 40 and not end.endswith(_SENTENCE_END) and start[:1].islower())


def _join(text: str, following: str, words: Counter[str]) -> str:
    """Two parts of a sentence as one; a word that was broken between them is mended."""
    text, following = text.rstrip("\n"), following.lstrip("\n")
    soft = text.endswith(_SOFT_HYPHEN)
    if not soft and not (text.endswith("-") and following[:1].islower()):
        return f"{text} {following}"
    text = text[:-1]
    head, tail = re.search(r"[^\W\d_]*$", text), re.match(r"[^\W\d_]*", following)
    if head is None or tail is None or not head[0] or not tail[0]:
        return f"{text}-{following}"
    whole, hyphened = (head[0] + tail[0]).lower(), f"{head[0]}-{tail[0]}".lower()
    is_one_word = following[0].islower() and words[whole] >= words[hyphened]
    if is_one_word and not words[whole]:  # then it is two words if each comes elsewhere; here each was counted once
        is_one_word = min(words[head[0].lower()], words[tail[0].lower()]) < 2
    return text + ("" if is_one_word else "-") + following
