"""What lies inside compressed files and archives, as streams: nothing is unpacked to disk under a name it brings along."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, cast

from steep.corpus.formats.content import Unreadable
from steep.corpus.formats.limits import Allowance

MAX_MEMBERS = 1_000_000
_BUFFER_BYTES = 1 << 20
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)


class _Counted(io.RawIOBase):
    """A stream whose bytes are counted against an allowance as they are read.

    Where it is damaged, or grows too much, it ends first, so that what came before can still be used; whoever reads on
    then meets the error.
    """

    def __init__(self, inner: Any, allowance: Allowance) -> None:
        self._inner = inner
        self._allowance = allowance
        self._error: Unreadable | None = None

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer. Raises Unreadable for damage and bombs, once the stream has ended at them."""
        if self._error is not None:
            raise self._error
        try:
            data = self._inner.read1(len(buffer))  # not `read`, which forgets what it has when it meets damage
            self._allowance.spend(len(data))
        except Unreadable as error:
            self._error = error
        except Exception as error:
            if (
                not isinstance(error, DAMAGE) and type(error).__name__ != "ZstdError"
            ):  # imported only where it is needed
                raise
            self._error = Unreadable("corrupt", f"cannot be unpacked: {error}")
        if self._error is not None:
            return 0
        buffer[: len(data)] = data
        return len(data)


def decompress(stream: IO[bytes], kind: str, allowance: Allowance) -> IO[bytes]:
    """The decompressed stream of a gz, bz2, xz or zst file, all its members or frames one after the other.

    It ends where the file is damaged; one more `read` then raises Unreadable.
    """
    openers: dict[str, Callable[[IO[bytes]], Any]] = {
        "gz": lambda inner: gzip.GzipFile(fileobj=inner, mode="rb"),
        "bz2": bz2.BZ2File,
        "xz": lzma.LZMAFile,
        "lzma": lzma.LZMAFile,
        "zst": _open_zstd,
        "zstd": _open_zstd,
    }
    return io.BufferedReader(_Counted(openers[kind](stream), allowance), _BUFFER_BYTES)


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside an archive; `size_bytes` as the archive says. `problem` is why it cannot be opened, if so."""

    name: str
    size_bytes: int
    open: Callable[[], IO[bytes]]
    problem: Unreadable | None = None


def members(stream: IO[bytes], kind: str, allowance: Allowance) -> Iterator[Member]:
    """The files of a zip (whose stream must seek) or tar archive, in its order. A member must be read before the next.

    Raises:
        Unreadable: the archive is damaged.
    """
    listed = _zip_members(stream, allowance) if kind == "zip" else _tar_members(stream, allowance)
    try:
        for number, member in enumerate(listed):
            if number >= MAX_MEMBERS:
                raise Unreadable("archive_bomb", f"holds over {MAX_MEMBERS} files")
            yield member
    except DAMAGE as error:
        raise Unreadable("corrupt", f"the archive is damaged: {error}") from error


def _zip_members(stream: IO[bytes], allowance: Allowance) -> Iterator[Member]:
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            problem = _unsafe(info.filename)
            if info.flag_bits & 0x1:
                problem = problem or Unreadable("encrypted", "is encrypted")
            yield Member(info.filename, info.file_size, partial(_open_zipped, archive, info, allowance), problem)


def _open_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, allowance: Allowance) -> IO[bytes]:
    try:
        opened = archive.open(info)
    except (*DAMAGE, NotImplementedError, RuntimeError) as error:  # an unknown method of compression, a lying header
        raise Unreadable("corrupt", f"cannot be unpacked: {error}") from error
    return io.BufferedReader(_Counted(opened, allowance), _BUFFER_BYTES)


def _tar_members(stream: IO[bytes], allowance: Allowance) -> Iterator[Member]:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for info in archive:
            if info.isdir():
                continue
            problem = _unsafe(info.name)
            if info.issym() or info.islnk():
                problem = problem or _unsafe(info.linkname) or Unreadable("empty", f"is a link to {info.linkname}")
            elif not info.isreg():
                problem = problem or Unreadable("unsupported", "is no file but a device or pipe")
            yield Member(info.name, info.size, partial(_open_tarred, archive, info, allowance), problem)


def _open_tarred(archive: tarfile.TarFile, info: tarfile.TarInfo, allowance: Allowance) -> IO[bytes]:
    opened = cast("IO[bytes]", archive.extractfile(info))
    return io.BufferedReader(_Counted(opened, allowance), _BUFFER_BYTES)


def _unsafe(name: str) -> Unreadable | None:
    """Why a member's path is refused: it is absolute, or climbs out of the archive."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or (len(parts[0]) == 2 and parts[0][1] == ":"):
        return Unreadable("unsafe_path", f"its path {name!r} leads out of the archive")
    return None


def _open_zstd(stream: IO[bytes]) -> Any:
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(stream, read_across_frames=True)
