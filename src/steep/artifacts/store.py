"""Where copies of artifacts are kept: a directory or an S3-compatible bucket, behind one small contract.

What an S3 store needs to know stands in the usual variables, see `artifacts/s3.py`. An object appears whole or not at all, in both kinds.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import Any, Protocol

from steep.artifacts.files import atomic_writer, full_disk_stops, sync_directory
from steep.artifacts.s3 import s3_client
from steep.spec.errors import DamagedArtifact, InvalidInput, OutOfSpace, SteepError

_CHUNK_BYTES = 8 << 20
_STAGING = re.compile(r"\..+\.(tmp|candidate)")


class StoreUnavailable(SteepError):
    """A store did not do what it was asked to, and may do so later."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in a store."""

    key: str
    size_bytes: int


class Store(Protocol):
    """Objects by key. Keys are relative, with `/` between their parts, none of them `..`; others raise InvalidInput.

    Every method may raise `StoreUnavailable`.
    """

    def put(self, key: str, content: Path | bytes, *, if_absent: bool = False) -> bool:
        """Store a file's content, or bytes. With `if_absent`, an object that is there stays; returns whether it was put."""

    def read(self, key: str) -> bytes:
        """A small object's bytes. Raises DamagedArtifact when it is not there."""

    def get(self, key: str, target: Path) -> None:
        """Copy an object to a new file, synced. Raises DamagedArtifact when it is not there."""

    def list(self, prefix: str = "") -> list[StoredObject]:
        """Objects below a prefix, by key. The prefix ends at a `/`: `a` does not match `ab`."""

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is fine."""

    def exists(self, key: str) -> bool:
        """Whether an object is there."""


def open_store(url: str) -> Store:
    """The store at `s3://bucket/prefix`, or in a directory (a path or `file://` URL).

    Raises:
        InvalidInput: neither.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return DirectoryStore(Path(url))
    if scheme == "file":
        return DirectoryStore(Path(rest))
    if scheme == "s3":
        bucket, _, prefix = rest.partition("/")
        if bucket:
            return S3Store(bucket, prefix)
    raise InvalidInput("is not a store", where=url, cure="Give s3://bucket/prefix or the path of a directory.")


class DirectoryStore:
    """Objects as files below a directory, on another disk or a shared file system. Satisfies `Store`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, content: Path | bytes, *, if_absent: bool = False) -> bool:
        """See `Store.put`."""
        target = self._path(key)
        with _directory_failures(target):
            if not if_absent:
                _clear_leftovers(target)
                self._write(target, content)
                return True
            writer = f"{os.getpid()}-{threading.get_native_id()}"
            candidate = target.with_name(f".{target.name}.{writer}.candidate")
            self._write(candidate, content)
            try:
                _take_name(candidate, target)
                sync_directory(target.parent)
                return True
            except FileExistsError:
                return False
            finally:
                candidate.unlink()

    def read(self, key: str) -> bytes:
        """See `Store.read`."""
        with _directory_failures(self._path(key), reading=True):
            return self._path(key).read_bytes()

    def get(self, key: str, target: Path) -> None:
        """See `Store.get`."""
        with _directory_failures(self._path(key), reading=True), open(self._path(key), "rb") as source:
            _save(iter(lambda: source.read(_CHUNK_BYTES), b""), target)

    def list(self, prefix: str = "") -> list[StoredObject]:
        """See `Store.list`."""
        found = []
        with _directory_failures(self.root):
            for path in (self._path(prefix) if prefix else self.root).rglob("*"):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    stat = path.stat()
                    if S_ISREG(stat.st_mode) and not _STAGING.fullmatch(path.name):
                        found.append(StoredObject(path.relative_to(self.root).as_posix(), stat.st_size))
        return sorted(found, key=lambda one: one.key)

    def delete(self, key: str) -> None:
        """See `Store.delete`. Directories that became empty go too."""
        with _directory_failures(self._path(key)):
            _clear_leftovers(self._path(key))
            self._path(key).unlink(missing_ok=True)
            parent = self._path(key).parent
            while parent != self.root and parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
                parent = parent.parent

    def exists(self, key: str) -> bool:
        """See `Store.exists`."""
        with _directory_failures(self._path(key)):
            return self._path(key).is_file()

    def _path(self, key: str) -> Path:
        return self.root / _checked(key, str(self.root))

    def _write(self, target: Path, content: Path | bytes) -> None:
        try:
            with atomic_writer(target) as stream:
                if isinstance(content, bytes):
                    stream.write(content)
                else:
                    with open(content, "rb") as source:
                        shutil.copyfileobj(source, stream, _CHUNK_BYTES)
        except OutOfSpace as error:  # over there; that must not pause the run here
            raise _unavailable(str(target), error) from error


class S3Store:
    """Objects in an S3-compatible bucket. Satisfies `Store`."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self.where = f"s3://{bucket}/{prefix}".rstrip("/")
        # waiting longer is the caller's business, who knows whether anybody waits
        self._client = s3_client(bucket, prefix=prefix, answer_seconds=600, max_retries=2, retry_seconds=30)

    def put(self, key: str, content: Path | bytes, *, if_absent: bool = False) -> bool:
        """See `Store.put`."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with _bucket_failures(self._at(key)):
            try:
                obstore.put(
                    self._client,
                    key,
                    content,
                    mode="create" if if_absent else "overwrite",
                    chunk_size=_CHUNK_BYTES,
                    max_concurrency=4,
                )
            except AlreadyExistsError:
                return False
            return True

    def read(self, key: str) -> bytes:
        """See `Store.read`."""
        import obstore

        with _bucket_failures(self._at(key), reading=True):
            return bytes(obstore.get(self._client, key).bytes())

    def get(self, key: str, target: Path) -> None:
        """See `Store.get`."""
        import obstore

        with _bucket_failures(self._at(key), reading=True):
            _save(obstore.get(self._client, key).stream(min_chunk_size=_CHUNK_BYTES), target)

    def list(self, prefix: str = "") -> list[StoredObject]:
        """See `Store.list`."""
        import obstore

        with _bucket_failures(self._at(prefix) if prefix else self.where):
            pages = obstore.list(self._client, prefix or None)
            found = [StoredObject(entry["path"], entry["size"]) for page in pages for entry in page]
            return sorted(found, key=lambda one: one.key)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        import obstore

        with _bucket_failures(self._at(key)):
            try:
                obstore.delete(self._client, key)
            except FileNotFoundError:
                return

    def exists(self, key: str) -> bool:
        """See `Store.exists`."""
        import obstore

        with _bucket_failures(self._at(key)):
            try:
                obstore.head(self._client, key)
            except FileNotFoundError:
                return False
            return True

    def _at(self, key: str) -> str:
        return f"{self.where}/{_checked(key, self.where)}"


@contextmanager
def _bucket_failures(where: str, *, reading: bool = False) -> Iterator[None]:
    """`reading`: that something is not there means that this object is not, unless the whole bucket is missing."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        if reading and isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error):
            raise _absent(where) from error
        raise _unavailable(where, error) from error


def _checked(key: str, where: str) -> str:
    path = PurePosixPath(key)
    if not path.parts or ".." in path.parts or path.is_absolute():
        raise InvalidInput(f"{key!r} is not a key", where=where, cure="Use a relative key without `..`.")
    return key


def _take_name(candidate: Path, target: Path) -> None:
    """Give a file a name that nobody has. Raises FileExistsError when somebody does."""
    try:
        os.link(candidate, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, such as a USB disk's
        with open(candidate, "rb") as source, open(target, "xb") as stream:
            shutil.copyfileobj(source, stream, _CHUNK_BYTES)
            stream.flush()
            os.fsync(stream.fileno())


def _clear_leftovers(target: Path) -> None:
    """What a killed writer of this object left; it can be as large as the object."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        leftover.unlink(missing_ok=True)


def _save(chunks: Any, target: Path) -> None:
    with full_disk_stops(target), open(target, "wb") as stream:
        for chunk in chunks:
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def _directory_failures(where: Path, *, reading: bool = False) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if reading and isinstance(error, FileNotFoundError):
            raise _absent(str(where)) from error
        raise _unavailable(str(where), error) from error


def _absent(where: str) -> DamagedArtifact:
    return DamagedArtifact("is not in the store", where=where, cure="Choose another checkpoint, or another store.")


def _unavailable(where: str, error: Exception) -> StoreUnavailable:
    return StoreUnavailable(
        f"the store failed: {_reason(error)[:300]}", where=where, cure="Check its address, credentials and free space."
    )


def _reason(error: Exception) -> str:
    """What an S3 server said in its answer, where there is one; else the first line of the error."""
    text = str(error).strip()
    if said := re.search(r"<Code>([^<]+)</Code>\s*<Message>([^<]+)</Message>", text):
        return f"{said[1]}: {said[2]}"
    return text.splitlines()[0] if text else type(error).__name__
