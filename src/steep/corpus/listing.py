"""Which files of a source are taken, wherever it lies: the same rules for directories, archives, buckets and the hub."""

from __future__ import annotations

from collections.abc import Sequence

from steep.corpus.formats.registry import is_known
from steep.corpus.patterns import matches
from steep.spec.errors import InvalidCorpus
from steep.spec.job import Source

Listed = tuple[str, int, str]  # path or URL, size in bytes (0 when unknown), version


def wanted(relative: str, source: Source) -> bool:
    """Whether a file below a directory, a prefix or an archive belongs to the source; `relative` is its path there."""
    if source.exclude and matches(relative, source.exclude):
        return False
    return matches(relative, source.include) if source.include else is_known(relative)


def select(paths: Sequence[str], pattern: str, source: Source) -> list[str]:
    """Of paths relative to a prefix, those that the source wants; `pattern` is the wildcard part of its path, or empty."""
    visible = [path for path in paths if not any(part.startswith(".") for part in path.split("/"))]
    if not pattern:
        return [path for path in visible if wanted(path, source)]
    return [
        path
        for path in visible
        if matches(path, [pattern], anchored=True)
        and not matches(path, source.exclude)
        and (not source.include or matches(path, source.include))
    ]


def unreachable(where: str, why: str) -> InvalidCorpus:
    """The error that a remote source is not to be had."""
    first = why.strip().partition("\n")[0] or "no answer"
    return InvalidCorpus(
        f"cannot be reached: {first[:300]}",
        where=where,
        cure="Check the address, the network and the credentials; or copy the files here and give their path.",
    )
