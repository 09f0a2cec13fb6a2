"""What office files have in common: a zip archive within, checked before an extractor unpacks it."""

from __future__ import annotations

import io
import zipfile

from steep.corpus.formats.content import Unreadable
from steep.corpus.formats.limits import Allowance

OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")


def open_package(data: bytes) -> zipfile.ZipFile:
    """The archive inside an office file or e-book.

    Raises:
        Unreadable: it is encrypted, in the format of before 2007, damaged, or a bomb.
    """
    refuse_ole(data)
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile as error:
        raise Unreadable("corrupt", f"is no zip archive inside: {error}") from error
    if any(info.flag_bits & 0x1 for info in archive.infolist()):
        raise Unreadable("encrypted", "is encrypted")
    Allowance(len(data)).spend(sum(info.file_size for info in archive.infolist()))
    return archive


def refuse_encrypted(data: bytes) -> None:
    """Raise Unreadable for an office file that is locked with a password."""
    if data.startswith(OLE_MAGIC) and _ENCRYPTED_STREAM in data:
        raise Unreadable("encrypted", "is locked with a password")


def refuse_ole(data: bytes) -> None:
    """Raise Unreadable for an office file that is locked, or from before 2007."""
    refuse_encrypted(data)
    if data.startswith(OLE_MAGIC):
        raise Unreadable("wrong_format", "is an office file from before 2007 inside; save it in the newer format")
