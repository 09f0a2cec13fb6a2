"""Bytes to text, in whatever encoding they are."""

from __future__ import annotations

import codecs
import io
import re
from typing import IO

from steep.corpus.formats.content import Unreadable

SAMPLE_BYTES = 1 << 18
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CENTRAL = ("Polish", "Czech", "Slovak", "Hungarian", "Romanian", "Croatian", "Slovene")
# what languages, in charset-normalizer's words, are written in on Windows and elsewhere; others are taken for Western
_LIKELY: dict[str, tuple[str, str]] = {
    **dict.fromkeys(_CENTRAL, ("cp1250", "iso8859_2")),
    "Turkish": ("cp1254", "iso8859_9"),
    "Lithuanian": ("cp1257", "iso8859_13"),
    "Vietnamese": ("cp1258", "cp1258"),
}
_WINDOWS_BYTES = re.compile(rb"[\x80-\x9f]")  # letters on Windows, control characters elsewhere
_MAX_STRAY = 0.3  # of characters that are not ASCII: hardly a legacy text has even a few that are UTF-8 by chance
_MAX_BROKEN = 0.001  # of characters in an encoding that was detected: a few damaged places do not make another of it
_MARKS = " \n.,\u3000\u3001\u3002\uff0c"
_BINARY = frozenset(range(9)) | frozenset(range(14, 27)) | frozenset(range(28, 32))


def decode(data: bytes, encoding: str | None = None) -> str:
    """Text of `data`: by `encoding` where given, else by its byte order mark, as UTF-8, or as what is detected.

    Raises:
        Unreadable: it is binary, or not in the encoding that was given.
    """
    was_given = encoding is not None
    encoding = encoding or detect(data)
    mark = next((mark for mark, name in _BOMS if data.startswith(mark) and _same(name, encoding)), b"")
    data = data[len(mark) :] if mark else data
    if _same(encoding, "utf-8"):
        return _decode_utf8(data)
    try:
        return mend_surrogates(data.decode(encoding))
    except (UnicodeDecodeError, LookupError) as error:
        text = "" if was_given else data.decode(encoding, "replace")
        if 0 < text.count("\ufffd") <= _MAX_BROKEN * len(text):
            return text
        raise Unreadable("encoding", f"is not {encoding}: {error}") from error


def detect(data: bytes) -> str:
    """The encoding of a text's bytes, of which the first 256 kB are looked at unless they are UTF-8.

    Raises:
        Unreadable: they are no text.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            return name
    sample = data[:SAMPLE_BYTES]
    if b"\0" in sample:
        return _detect_wide(sample)
    if _is_utf8(data):
        return "utf-8"
    if sum(byte in _BINARY for byte in sample[:4096]) > 0.02 * min(len(sample), 4096):
        return _detect_wide(sample)  # Chinese in UTF-16 has no zero byte
    return _detect_single(sample)


def decode_declared(data: bytes, declared: str | None, encoding: str | None = None) -> str:
    """Text of a document that names its own encoding, which is believed when nothing speaks against it.

    An encoding given by the user comes first, then a byte order mark, then UTF-8 where the bytes are that. Raises as `decode`.
    """
    marked = any(data.startswith(mark) for mark, _ in _BOMS)
    if encoding is None and declared is not None and not marked and known_encoding(declared):
        name = codecs.lookup(declared).name
        name = "cp1252" if name in ("ascii", "iso8859-1") else name  # as every browser reads it
        if not name.startswith(("utf-16", "utf-32")) and not (_decodes(data, "utf-8") and not data.isascii()):
            try:
                return decode(data, name)
            except Unreadable:
                return decode(data)
    return decode(data, encoding)


def detect_head(head: bytes) -> str:
    """The encoding of a text of which these are the first bytes; they may end inside a character. Raises as `detect`."""
    return detect(_whole_characters(head))


def is_utf8(encoding: str) -> bool:
    """Whether this names UTF-8, or ASCII, which is a part of it."""
    return known_encoding(encoding) and codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def open_text(stream: IO[bytes], encoding: str | None, head: bytes) -> io.TextIOWrapper:
    """The stream as text with its line ends kept; `head` is its beginning, from which the encoding is detected.

    A byte that is not UTF-8 becomes a lone surrogate, for `mend_surrogates` to mend.
    """
    encoding = encoding or detect_head(head)
    names = {
        "utf-8": "utf-8-sig",
        "utf-16-le": "utf-16",
        "utf-16-be": "utf-16",
        "utf-32-le": "utf-32",
        "utf-32-be": "utf-32",
    }
    marked = any(head.startswith(mark) for mark, _ in _BOMS)
    name = names.get(codecs.lookup(encoding).name, encoding) if marked else encoding
    errors = "surrogateescape" if _same(name, "utf-8") or _same(name, "utf-8-sig") else "replace"
    return io.TextIOWrapper(stream, encoding=name, errors=errors, newline="")


def mend_surrogates(text: str) -> str:
    """Valid Unicode: a lone surrogate that stands for a stray byte becomes its Windows-1252 character, others U+FFFD."""
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        text = text.translate(_stray_bytes())
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def known_encoding(encoding: str) -> bool:
    """Whether Python knows an encoding by this name, and it is one of text."""
    try:
        return codecs.lookup(encoding)._is_text_encoding
    except LookupError:
        return False


def _decode_utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return mend_surrogates(data.decode("utf-8", "surrogateescape"))


def _is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8, but for a few stray ones."""
    if data.isascii():
        return True
    try:
        data.decode("utf-8")
        return True
    except UnicodeDecodeError:
        text = data[:SAMPLE_BYTES].decode("utf-8", "surrogateescape")
        foreign = [character for character in text if character > "\x7f"]
        return sum("\udc80" <= character <= "\udcff" for character in foreign) <= _MAX_STRAY * len(foreign)


def _detect_wide(sample: bytes) -> str:
    """UTF-16 or UTF-32 without a mark: the one in which spaces and stops come out as often as text has them."""
    best, best_share = None, 0.02
    for name in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        try:
            text = sample[: len(sample) // 4 * 4 - 4 or None].decode(name)
        except UnicodeDecodeError:
            continue
        controls = sum(character < " " and character not in "\t\r\n\f" for character in text)
        share = sum(text.count(mark) for mark in _MARKS) / max(1, len(text))
        if share > best_share and controls <= 0.01 * len(text):
            best, best_share = name, share
    if best is None:
        raise Unreadable("encoding", "is binary, not text")
    return best


def _detect_single(sample: bytes) -> str:
    """The legacy encoding of a text: of those that make equal sense of it the one that its language is mostly written in."""
    from charset_normalizer import from_bytes

    found = from_bytes(sample, enable_fallback=False)
    best = found.best()
    if best is None:
        raise Unreadable("encoding", "its encoding cannot be detected; set `encoding` of the source")
    ties = {match.encoding for match in found if match.chaos <= best.chaos + 0.01}
    if best.language not in _LIKELY:
        return "cp1252" if ties & {"cp1252", "latin_1"} and _decodes(sample, "cp1252") else best.encoding
    windows, other = _LIKELY[best.language]
    likely = (windows, other) if _WINDOWS_BYTES.search(sample) else (other, windows)
    return next((name for name in likely if name in ties), best.encoding)


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
        return True
    except UnicodeDecodeError:
        return False


def _whole_characters(head: bytes) -> bytes:
    """The beginning of a stream without the piece of a UTF-8 character at its end."""
    for back in range(1, min(4, len(head)) + 1):
        if head[-back] & 0xC0 != 0x80:
            return head[:-back] if head[-back] >= 0xC0 else head
    return head


def _stray_bytes() -> dict[int, str]:
    return {0xDC00 + byte: bytes([byte]).decode("cp1252", "replace") for byte in range(0x80, 0x100)}


def _same(one: str, other: str) -> bool:
    return (
        codecs.lookup(one).name == codecs.lookup(other).name if known_encoding(one) and known_encoding(other) else False
    )
