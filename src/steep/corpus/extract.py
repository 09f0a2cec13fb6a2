"""Files to documents: the first step of the corpus pipeline.

A file is opened, whatever is packed in it is unpacked as a stream, and one reader a format (in `formats/`) gives its text. What
cannot be read leaves as a `Drop` with a reason of `REASONS`, be it a file, a member of an archive or a line; nothing is
lost in silence and nothing stops the file after it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import IO
from urllib.parse import urlsplit

from steep.corpus.archives import decompress, members
from steep.corpus.document import Document, Drop, document_id, excerpt, make_document, text_bytes
from steep.corpus.formats.content import Content, Fields, Lost, Unreadable, seekable
from steep.corpus.formats.encoding import SAMPLE_BYTES, detect_head, known_encoding
from steep.corpus.formats.limits import Allowance
from steep.corpus.formats.readers import RECORD_READERS, STREAM_READERS, WHOLE_READERS, guarded_items, guarded_text
from steep.corpus.formats.registry import (
    ARCHIVES,
    COMPRESSIONS,
    contradicts,
    format_by_content,
    format_by_name,
    without_compression,
)
from steep.corpus.listing import wanted
from steep.corpus.paragraphs import cut_paragraphs
from steep.corpus.patterns import matches
from steep.corpus.sources import SourceFile, names_its_files, root_of
from steep.spec.errors import InvalidCorpus
from steep.spec.job import Source

REASONS: dict[str, str] = {
    "empty": "holds no text",
    "corrupt": "is damaged, or not what its name says inside",
    "wrong_format": "its content is in another format than its name says",
    "no_access": "cannot be opened",
    "unsupported": "is in a format that Steep does not read",
    "encrypted": "is locked with a password",
    "encoding": "is binary, or in an encoding that cannot be told",
    "broken_line": "is a line that cannot be parsed",
    "no_text_field": "has no field that holds text",
    "too_large": "is too large to be read at once",
    "too_slow": "takes too long to read",
    "archive_bomb": "grows beyond what honest text does when unpacked",
    "unsafe_path": "has a path that leads out of its archive",
}
# of these, what concerns a whole file that somebody should look at; the others are of ordinary files and lines
FAILURES = frozenset(REASONS) - {"empty", "broken_line", "no_text_field"}

PIECE_BYTES = 8000  # of `split_documents: paragraphs`
LARGE_TEXT_BYTES = 4 << 20  # a longer text is many documents in one file
LARGE_PIECE_BYTES = 256 << 10
_MAX_DEPTH = 8
_HEAD_BYTES = 4096
_BUFFER_BYTES = 1 << 20
_REST = ":rest"  # after the origin of what was read in part


def extract(file: SourceFile, source: Source) -> Iterator[Document | Drop]:
    """The documents of one file, in its order, and a drop for each part of it that cannot be read.

    Memory is bounded by one document, or one batch of records, whatever the file's size.

    Args:
        file: one of `sources.list_files`.
        source: what the spec says about it: text field, encoding, members wanted, how to split.

    Raises:
        InvalidCorpus: the text field is not there or not clear, the encoding is unknown, or a remote file is out of reach.
    """
    if source.encoding is not None and not known_encoding(source.encoding):
        raise InvalidCorpus(
            f"there is no encoding {source.encoding!r}",
            where=source.path,
            cure="Write a name that Python knows, such as utf-8 or cp1252, or leave `encoding` out to have it detected.",
        )
    work = _Work(file, source)
    origin = _origin(file, source)
    stream: IO[bytes] | None = None
    try:
        with _open(file) as stream:
            size_bytes = file.size_bytes or _size_bytes(stream)
            work.allowance.packed_bytes = size_bytes
            yield from work.read(Content(_name(file), stream, size_bytes, origin))
    except Unreadable as error:
        if work.num_documents:
            yield work.lose(origin + _REST, error, _unread_bytes(stream, file.size_bytes))
        else:
            yield work.lose(origin, error, file.size_bytes)


class _Work:
    """The way of one file through containers, readers and cuts, to its documents and drops."""

    def __init__(self, file: SourceFile, source: Source) -> None:
        self.num_documents = 0
        self.allowance = Allowance(file.size_bytes)
        self._name = file.source
        self._source = source
        self._named = names_its_files(source)
        self._member_wanted = _member_filter(file, source)

    def read(self, content: Content, depth: int = 0) -> Iterator[Document | Drop]:
        """What is in a file, member or decompressed stream. Raises Unreadable when the whole of it cannot be read."""
        kind = self._kind(content)
        if kind in COMPRESSIONS or kind in ARCHIVES:
            if depth >= _MAX_DEPTH:
                raise Unreadable("archive_bomb", f"is packed more than {_MAX_DEPTH} times over")
            if kind in COMPRESSIONS:
                inner = decompress(content.stream, kind, self.allowance)
                name = without_compression(content.name)
                yield from self._unpacked(Content(name, inner, content.size_bytes, content.origin), depth)
            else:
                yield from self._members(content, kind, depth)
        elif kind in RECORD_READERS:
            yield from self._records(content, kind, depth)
        else:
            yield from self._documents(content, kind)

    def lose(self, origin: str, error: Unreadable, size_bytes: int) -> Drop:
        """The record of something that cannot be read."""
        return self._drop(origin, error.reason, error.detail, size_bytes)

    def _kind(self, content: Content) -> str:
        """The format of what is there. Raises Unreadable when its name and its content are at odds, or say nothing."""
        head = content.head(_HEAD_BYTES)
        if not head:
            raise Unreadable("empty", "is empty")
        kind = format_by_name(content.name)
        if kind is not None:
            found = contradicts(kind, head)
            if found is not None:
                raise Unreadable("wrong_format", f"is called {kind} but is {found} inside; rename it")
            return kind
        kind = format_by_content(head)
        if kind is None:
            try:
                detect_head(content.head(SAMPLE_BYTES))
            except Unreadable:
                raise Unreadable("unsupported", "is in no format that Steep reads") from None
        return kind or "text"

    def _unpacked(self, content: Content, depth: int) -> Iterator[Document | Drop]:
        """What is in an unpacked stream; damage to the packing, at which the stream ends, is the reason that is told."""
        stream = content.stream
        try:
            yield from self.read(content, depth + 1)
        except Unreadable:
            stream.read(1)
            raise
        stream.read(1)

    def _members(self, content: Content, kind: str, depth: int) -> Iterator[Document | Drop]:
        num_wanted = 0
        with seekable(content.stream) if kind == "zip" else nullcontext(content.stream) as stream:
            for member in members(stream, kind, self.allowance):
                if not self._member_wanted(member.name):
                    continue
                num_wanted += 1
                origin = f"{content.origin}#{member.name}"
                before = self.num_documents
                try:
                    if member.problem is not None:
                        raise member.problem
                    with member.open() as inner:
                        yield from self._unpacked(Content(member.name, inner, member.size_bytes, origin), depth)
                except Unreadable as error:
                    if self.allowance.is_spent:
                        raise
                    if self.num_documents > before:
                        yield self.lose(origin + _REST, error, 0)
                    else:
                        yield self.lose(origin, error, member.size_bytes)
        if num_wanted == 0:
            raise Unreadable("empty", "holds no file in a format that Steep reads")

    def _records(self, content: Content, kind: str, depth: int) -> Iterator[Document | Drop]:
        given = self._source.text_field
        strict = self._named and "#" not in content.origin if given is None else kind != "json" or self._named
        fields = Fields(given, self._source.encoding, strict)
        num_records = 0
        for item in guarded_items(RECORD_READERS[kind], content, fields):
            num_records += 1
            origin = f"{content.origin}:{item.mark}"
            if isinstance(item, Lost):
                yield self._drop(origin, item.reason, item.detail, item.text_bytes)
            elif self._source.split_documents == "paragraphs":
                for number, (piece, _) in enumerate(cut_paragraphs([item.text], PIECE_BYTES), start=1):
                    yield self._document(piece, f"{origin}.{number}")
            else:
                yield self._document(item.text, origin)
        if num_records == 0:
            raise Unreadable("empty", "holds no records")

    def _documents(self, content: Content, kind: str) -> Iterator[Document | Drop]:
        if kind in STREAM_READERS:
            blocks = guarded_items(STREAM_READERS[kind], content, self._source.encoding)
        else:
            data = content.whole()
            text = guarded_text(WHOLE_READERS[kind], data, self._source.encoding) if data.strip() else ""
            if not text.strip():
                raise Unreadable("empty", "holds no text" + (", perhaps it was scanned" if kind == "pdf" else ""))
            blocks = iter([text])
        if self._source.split_documents == "file":
            held, error = _hold(blocks)
            if sum(map(text_bytes, held)) <= LARGE_TEXT_BYTES:
                if held:
                    yield self._document("".join(held), content.origin)
                if error is not None:
                    raise error
                return
            blocks = _rejoin(held, blocks, error)
            max_bytes = LARGE_PIECE_BYTES
        else:
            max_bytes = PIECE_BYTES
        for piece, line in cut_paragraphs(blocks, max_bytes):
            yield self._document(piece, f"{content.origin}:{line}")

    def _document(self, text: str, origin: str) -> Document | Drop:
        if not text.strip():
            return self._drop(origin, "empty", REASONS["empty"], text_bytes(text))
        self.num_documents += 1
        return make_document(text, self._name, origin)

    def _drop(self, origin: str, reason: str, detail: str, size_bytes: int) -> Drop:
        return Drop(document_id(self._name, origin), self._name, origin, "extract", reason, size_bytes, excerpt(detail))


def _hold(blocks: Iterator[str]) -> tuple[list[str], Unreadable | None]:
    """The first blocks, up to one more than a document may have, and the error that ended them."""
    held: list[str] = []
    size_bytes = 0
    try:
        for block in blocks:
            held.append(block)
            size_bytes += text_bytes(block)
            if size_bytes > LARGE_TEXT_BYTES:
                break
    except Unreadable as error:
        return held, error
    return held, None


def _rejoin(held: list[str], rest: Iterator[str], error: Unreadable | None) -> Iterator[str]:
    yield from held
    if error is not None:
        raise error
    yield from rest


def _member_filter(file: SourceFile, source: Source) -> Callable[[str], bool]:
    """Which members of archives in a file are taken: those that would be taken from a directory.

    Where `include` names the archive itself, it says nothing about what is in it.
    """
    origin = _origin(file, source)
    inside = source.model_copy(update={"include": ()}) if matches(origin, source.include) else source

    def is_wanted(name: str) -> bool:
        parts = name.replace("\\", "/").split("/")
        hidden = any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in parts)
        return not hidden and (wanted(name, inside) or _is_packed(name))

    return is_wanted


def _is_packed(name: str) -> bool:
    """Whether a member is an archive itself, whose own members are then asked for."""
    while format_by_name(name) in COMPRESSIONS:
        name = without_compression(name)
    return format_by_name(name) in ARCHIVES


def _origin(file: SourceFile, source: Source) -> str:
    return file.path if "://" in file.path else file.path.removeprefix(root_of(source))


def _open(file: SourceFile) -> IO[bytes]:
    """The file's bytes. Raises Unreadable when the system does not give them."""
    if "://" in file.path:
        from steep.corpus.remote import open_remote

        return open_remote(file)
    try:
        return open(file.path, "rb", buffering=_BUFFER_BYTES)
    except OSError as error:
        raise Unreadable("no_access", f"cannot be opened: {error.strerror}") from error


def _name(file: SourceFile) -> str:
    """A file's path without what a URL has after it."""
    return urlsplit(file.path).path if file.path.startswith(("http://", "https://")) else file.path


def _size_bytes(stream: IO[bytes]) -> int:
    """The size of a file whose server did not say it."""
    size_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return size_bytes


def _unread_bytes(stream: IO[bytes] | None, size_bytes: int) -> int:
    """What of a file was left when reading ended early."""
    if stream is None or stream.closed or not stream.seekable():
        return 0
    return max(0, size_bytes - stream.tell())
