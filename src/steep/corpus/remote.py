"""Sources that lie elsewhere: S3-compatible buckets, URLs, datasets of the Hugging Face hub.

Listing names every file with its size and version; opening gives its bytes as a stream that can seek. What a server refuses
or a network loses is an error for the user, never a dropped document: the text is there, only not now.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from steep.artifacts.files import full_disk_stops
from steep.artifacts.s3 import s3_client
from steep.corpus.addresses import open_url
from steep.corpus.listing import Listed, select, unreachable
from steep.corpus.patterns import WILDCARDS, split_at_wildcard
from steep.spec.errors import InvalidCorpus
from steep.spec.job import Source

if TYPE_CHECKING:
    from steep.corpus.sources import SourceFile

_TIMEOUT_SECONDS = 60
_ATTEMPTS = 3
_PAUSE_SECONDS = 1.0
_RANGE_BYTES = 4 << 20
_MEMORY_BYTES = 32 << 20
_CHUNK_BYTES = 1 << 20


def list_remote(source: Source) -> list[Listed]:
    """The wanted files of a remote source, as path, size in bytes and version.

    Raises:
        InvalidCorpus: the scheme is unknown, there is nothing there, or it cannot be reached.
    """
    scheme = source.path.partition("://")[0].lower()
    if scheme == "s3":
        return _list_s3(source)
    if scheme in ("http", "https"):
        return [_describe_url(source.path)]
    if scheme == "hf":
        from steep.corpus.hub import list_dataset

        return list_dataset(source)
    raise InvalidCorpus(
        f"there is no way to read {scheme}://",
        where=source.path,
        cure="Give a local path, http(s)://, s3://bucket/prefix or hf://org/dataset.",
    )


def open_remote(file: SourceFile) -> IO[bytes]:
    """The bytes of a listed file. Raises InvalidCorpus when it cannot be reached, now or while it is read."""
    scheme = file.path.partition("://")[0].lower()
    if scheme == "s3":
        return _open_s3(file)
    if scheme == "hf":
        from steep.corpus.hub import open_dataset_file

        return open_dataset_file(file)
    return _download(file.path)


# ------------------------------------------------------------------------------------------------------------------ S3


def _list_s3(source: Source) -> list[Listed]:
    import obstore

    bucket, key, client = _client(source.path)
    prefix, pattern = split_at_wildcard(key) if WILDCARDS.search(key) else (key, "")
    with _reaching(source.path):
        if key and not pattern and not key.endswith("/"):
            with contextlib.suppress(FileNotFoundError):
                found = obstore.head(client, key)
                return [(source.path, int(found["size"]), _version(found))]
            prefix = key + "/"
        entries = [entry for page in obstore.list(client, prefix or None) for entry in page]
    by_path = {entry["path"].removeprefix(prefix): entry for entry in entries}
    return [
        (f"s3://{bucket}/{by_path[path]['path']}", int(by_path[path]["size"]), _version(by_path[path]))
        for path in select(list(by_path), pattern, source)
    ]


def _open_s3(file: SourceFile) -> IO[bytes]:
    import obstore

    _, key, client = _client(file.path)
    with _reaching(file.path):
        reader = obstore.open_reader(client, key, buffer_size=_RANGE_BYTES)
    return io.BufferedReader(_Ranges(reader, file.path), _CHUNK_BYTES)


def _client(url: str) -> tuple[str, str, Any]:
    """Bucket, key and a client."""
    bucket, _, key = url.partition("://")[2].partition("/")
    if not bucket:
        raise InvalidCorpus("names no bucket", where=url, cure="Write s3://bucket/prefix.")
    client = s3_client(bucket, answer_seconds=_TIMEOUT_SECONDS, max_retries=_ATTEMPTS, retry_seconds=_TIMEOUT_SECONDS)
    return bucket, key, client


def _version(entry: Any) -> str:
    return str(entry.get("e_tag") or entry["last_modified"])


@contextlib.contextmanager
def _reaching(where: str) -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        raise InvalidCorpus("there is no such bucket or object", where=where, cure="Check the path.") from error
    except (BaseError, OSError) as error:
        raise unreachable(where, str(error)) from error


class _Ranges(io.RawIOBase):
    """A remote object as a stream that reads the ranges it is asked for."""

    def __init__(self, reader: Any, where: str) -> None:
        self._reader = reader
        self._where = where

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any stream."""
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        """As of any stream."""
        return int(self._reader.tell())

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer. Raises InvalidCorpus when the store does not answer."""
        with _reaching(self._where):
            data = memoryview(self._reader.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)


# ---------------------------------------------------------------------------------------------------------------- URLs


def _describe_url(url: str) -> Listed:
    """A file's size and version as the server says them; a server that knows no HEAD is asked for the file itself."""
    try:
        answer = _request(url, "HEAD")
    except urllib.error.HTTPError as error:
        with error:
            if error.code not in (403, 405, 501):
                raise unreachable(url, f"the server answers {error.code} {error.reason}") from error
        with _failures(url):
            answer = _request(url, "GET")
    except OSError as error:
        raise unreachable(url, str(getattr(error, "reason", error))) from error
    with answer:
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        return url, int(answer.headers.get("Content-Length") or 0), version


def _download(url: str) -> IO[bytes]:
    """The file, fetched whole at first, as few servers let one seek: in memory when small, else in a temporary file."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with contextlib.ExitStack() as undo, _failures(url):
                copy: IO[bytes] = undo.enter_context(tempfile.SpooledTemporaryFile(_MEMORY_BYTES))
                _fetch(url, copy)
                copy.seek(0)
                undo.pop_all()
                return copy
        except InvalidCorpus:
            if attempt == _ATTEMPTS:
                raise
            time.sleep(_PAUSE_SECONDS * attempt)
    raise AssertionError("the last attempt returns or raises")


def _fetch(url: str, target: IO[bytes]) -> None:
    with _request(url, "GET") as answer, full_disk_stops(Path(tempfile.gettempdir())):
        shutil.copyfileobj(answer, target, _CHUNK_BYTES)
        promised = answer.headers.get("Content-Length")
    if promised is not None and target.tell() != int(promised):
        raise OSError(f"only {target.tell()} of {promised} bytes came")


def _request(url: str, method: str) -> Any:
    request = urllib.request.Request(quote(url, safe="%/:=&?~#+!$,;'@()*[]"), method=method)
    return open_url(request, _TIMEOUT_SECONDS)


@contextlib.contextmanager
def _failures(url: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        with error:
            raise unreachable(url, f"the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(url, str(getattr(error, "reason", error))) from error
