"""Datasets of the Hugging Face hub: `hf://org/name[@revision][/path]`, where the path may be a file, a directory or a glob.

Files go through the hub's own cache, so what was fetched once is there without a network.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from steep.corpus.listing import Listed, select, unreachable
from steep.corpus.patterns import WILDCARDS, split_at_wildcard
from steep.spec.errors import InvalidCorpus
from steep.spec.job import Source

if TYPE_CHECKING:
    from steep.corpus.sources import SourceFile

_BUFFER_BYTES = 1 << 20


def list_dataset(source: Source) -> list[Listed]:
    """The wanted files of a dataset, with the hash of each as its version.

    Raises:
        InvalidCorpus: there is no such dataset, or no network and nothing in the cache.
    """
    dataset, revision, path = split_address(source.path)
    prefix, pattern = split_at_wildcard(path) if WILDCARDS.search(path) else (path, "")
    files = _list(dataset, revision, source.path)
    base = source.path.partition("://")[0] + "://" + dataset + (f"@{revision}" if revision else "")
    if path in files:
        return [(f"{base}/{path}", *files[path])]
    prefix = prefix if not prefix or prefix.endswith("/") else prefix + "/"
    inside = [name.removeprefix(prefix) for name in files if name.startswith(prefix)]
    return [(f"{base}/{prefix}{name}", *files[prefix + name]) for name in select(inside, pattern, source)]


def open_dataset_file(file: SourceFile) -> IO[bytes]:
    """A file of a dataset, fetched into the hub's cache when it is not there. Raises InvalidCorpus."""
    from huggingface_hub import hf_hub_download

    dataset, revision, path = split_address(file.path)
    try:
        with _quiet():
            local = hf_hub_download(dataset, path, repo_type="dataset", revision=revision)
    except _hub_errors() as error:
        raise unreachable(file.path, str(error)) from error
    return open(local, "rb", buffering=_BUFFER_BYTES)


def split_address(url: str) -> tuple[str, str | None, str]:
    """Dataset, revision and path of `hf://org/name@revision/path`; a leading `datasets/` is allowed.

    Raises:
        InvalidCorpus: it names no dataset.
    """
    rest = url.partition("://")[2].removeprefix("datasets/").strip("/")
    parts = rest.split("/", 2)
    if len(parts) < 2 or not all(parts[:2]):
        raise InvalidCorpus("names no dataset", where=url, cure="Write hf://org/name or hf://org/name@revision/path.")
    name, _, revision = parts[1].partition("@")
    return f"{parts[0]}/{name}", revision or None, parts[2] if len(parts) > 2 else ""


def _list(dataset: str, revision: str | None, where: str) -> dict[str, tuple[int, str]]:
    """Size and hash of every file, from the hub or else from the cache."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.hf_api import RepoFile

    try:
        with _quiet():
            found = list(HfApi().list_repo_tree(dataset, recursive=True, revision=revision, repo_type="dataset"))
        return {
            entry.path: (entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
            for entry in found
            if isinstance(entry, RepoFile)
        }
    except GatedRepoError as error:
        raise InvalidCorpus(
            "the dataset asks for permission", where=where, cure="Ask for it, and set HF_TOKEN."
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise InvalidCorpus(
            "there is no such dataset or revision", where=where, cure="Check its name; a private one needs HF_TOKEN."
        ) from error
    except _hub_errors() as error:
        cached = _list_cached(dataset, revision)
        if not cached:
            raise unreachable(where, f"no network, and no copy in the cache ({type(error).__name__})") from error
        return cached


def _list_cached(dataset: str, revision: str | None) -> dict[str, tuple[int, str]]:
    """The files of a dataset that were fetched before. In the cache a file is a link to a blob named by its hash."""
    from huggingface_hub import snapshot_download

    try:
        root = Path(snapshot_download(dataset, repo_type="dataset", revision=revision, local_files_only=True))
    except _hub_errors():
        return {}
    return {
        path.relative_to(root).as_posix(): (path.stat().st_size, path.resolve().name)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the hub's client from writing of its retries and progress over the console's own lines."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logger, had_bars = logging.getLogger("huggingface_hub"), not are_progress_bars_disabled()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if had_bars:
            enable_progress_bars()


def _hub_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises when it gets no answer, or one that it does not like."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    http_errors = HfHubHTTPError.__bases__  # of the HTTP library that the client uses, which has changed and may again
    return (OSError, HFValidationError, HfHubHTTPError, *http_errors)
