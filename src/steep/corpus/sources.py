"""Where text comes from: the files of each source, listed before anything is read.

A listing is cheap and complete: with each file's size and version it says whether a corpus has changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from steep.corpus.formats.registry import COMPRESSIONS, FORMATS, format_by_name, without_compression
from steep.corpus.listing import wanted
from steep.corpus.patterns import WILDCARDS, matches, split_at_wildcard
from steep.spec.errors import InvalidCorpus
from steep.spec.job import Source

RESERVED_NAMES = frozenset({"self"})  # text sampled from the base model goes by this name
_SAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source.

    Attributes:
        source: the source's name.
        path: absolute local path, or URL.
        size_bytes: its size as it lies there, compressed or not; 0 when a server does not say.
        version: changes when the content does: modification time in ns, entity tag or hash.
    """

    source: str
    path: str
    size_bytes: int
    version: str


def name_sources(sources: Sequence[Source]) -> dict[str, Source]:
    """Sources by name, in their order. Names are unique, whatever the case, and fit for a directory.

    A source that has no name takes its path's last telling part; one whose name is taken gets a number.
    """
    named: dict[str, Source] = {}
    taken = set(RESERVED_NAMES)
    for source in sources:
        base = _SAFE.sub("-", source.name or _telling_part(source.path)).strip("-.") or "text"
        name, number = base, 1
        while name.casefold() in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name.casefold())
        named[name] = source
    return named


def list_files(name: str, source: Source) -> list[SourceFile]:
    """Every file of a source, sorted by path.

    From a directory, a bucket's prefix or a hub dataset those in a known format are taken, or those that `include` names;
    a file that is named itself is always taken.

    Raises:
        InvalidCorpus: there is nothing there, nothing in a known format, or it cannot be reached.
    """
    if "://" in source.path and not source.path.startswith("file://"):
        from steep.corpus.remote import list_remote

        files = [SourceFile(name, *each) for each in list_remote(source)]
    else:
        files = [_describe(name, path) for path in _local_files(source)]
    if not files:
        kinds = "files that `include` names" if source.include else "files in a format that Steep reads"
        raise InvalidCorpus(
            f"there are no {kinds}",
            where=source.path,
            cure="Check the path, `include` and `exclude`; `include: ['**/*']` takes every file.",
        )
    return sorted(files, key=lambda file: file.path)


def local_path(source: Source) -> str:
    """A local source's path as an absolute one."""
    return os.path.abspath(os.path.expanduser(source.path.removeprefix("file://")))  # noqa: PTH100, PTH111  keeps links


def is_missing(source: Source) -> bool:
    """Whether a source names a file or directory of this machine that is not there. Of URLs and globs only listing can tell."""
    if "://" in source.path and not source.path.startswith("file://"):
        return False
    path = local_path(source)
    return not _is_glob(path) and not Path(path).exists()


def root_of(source: Source) -> str:
    """The directory that origins of a source's local files are relative to, with a `/` at its end.

    So a document keeps its id when the corpus is moved or copied to another machine.
    """
    path = local_path(source)
    if Path(path).is_dir():
        return path.rstrip("/") + "/"
    return split_at_wildcard(path)[0] if _is_glob(path) else path[: path.rfind("/") + 1]


def names_its_files(source: Source) -> bool:
    """Whether the path names files (or says how their names end), rather than a directory that holds all sorts."""
    last = PurePosixPath(source.path).name
    while format_by_name(last) in COMPRESSIONS:
        last = without_compression(last)
    kind = format_by_name(last)
    if kind in FORMATS:
        return True
    return "://" not in source.path and not Path(local_path(source)).is_dir() and not _is_glob(local_path(source))


def _is_glob(path: str) -> bool:
    return bool(WILDCARDS.search(path)) and not os.path.lexists(path)


def _local_files(source: Source) -> Iterator[str]:
    path = local_path(source)
    if _is_glob(path):
        root, pattern = split_at_wildcard(path)
        yield from (found for found in _walk(root) if _in_glob(found[len(root) :], pattern, source))
    elif Path(path).is_dir():
        root = path.rstrip("/") + "/"
        yield from (found for found in _walk(root) if wanted(found[len(root) :], source))
    elif Path(path).exists():
        yield path
    else:
        raise InvalidCorpus("there is no such file or directory", where=source.path, cure="Check the path.")


def _in_glob(relative: str, pattern: str, source: Source) -> bool:
    """Whether the pattern matches a file, or a directory above it of which the file is then a known member."""
    if matches(relative, [pattern], anchored=True):
        return not matches(relative, source.exclude) and (not source.include or matches(relative, source.include))
    parents = [str(parent) for parent in PurePosixPath(relative).parents][:-1]
    return any(matches(parent, [pattern], anchored=True) for parent in parents) and wanted(relative, source)


def _walk(root: str) -> Iterator[str]:
    """Paths of the files below a directory. Hidden ones stay out; links are followed, but no directory is read twice."""
    seen: set[tuple[int, int]] = set()
    pending = [root]
    while pending:
        directory = pending.pop()
        try:
            status = Path(directory).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError as error:
            raise InvalidCorpus(
                f"the directory cannot be read ({error.strerror})",
                where=directory,
                cure="Check the path and its rights.",
            ) from error
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                pending.append(entry.path)
            elif entry.is_file():
                yield entry.path


def _describe(name: str, path: str) -> SourceFile:
    status = Path(path).stat()
    return SourceFile(name, path, status.st_size, str(status.st_mtime_ns))


def _telling_part(path: str) -> str:
    """The part of a path that people would call the source by."""
    path = path.partition("://")[2].partition("?")[0] if "://" in path else local_path(Source(path=path))
    path = split_at_wildcard(path)[0] if WILDCARDS.search(path) else path
    stem = PurePosixPath(path.rstrip("/")).name
    while format_by_name(stem) is not None and "." in stem:
        stem = without_compression(stem) if format_by_name(stem) in COMPRESSIONS else stem.rpartition(".")[0]
    return stem.partition("@")[0]
