"""A base model or a tokenizer by what a job calls it: a directory, or an id of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from steep.spec.errors import InvalidModel

_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_directory_name(model: str) -> bool:
    """Whether a model's name can be that of a directory alone: nothing in the hub is called so."""
    return model.count("/") > 1 or model.startswith((".", "/", "~"))


def split_revision(model: str) -> tuple[str, str | None]:
    """A name of the hub and its revision, where it gives one; a directory's name is whole."""
    name, _, revision = model.partition("@")
    return (model, None) if is_directory_name(name) else (name, revision or None)


def commit_of(directory: Path) -> str | None:
    """The commit that a directory of the hub's cache holds; None of any other directory."""
    in_cache = directory.parent.name == "snapshots" and _COMMIT.fullmatch(directory.name) is not None
    return directory.name if in_cache else None


def find_directory(model: str, patterns: Sequence[str], *, holds: str) -> Path:
    """The directory of a model; of one of the hub, some files are downloaded, or found in the hub's cache.

    Args:
        model: a directory, or a hub id `org/name`, optionally `@revision`.
        patterns: globs of the files to fetch from the hub.
        holds: the files that a directory in its place must hold, for the cure.

    Raises:
        InvalidModel: there is no such directory, and the hub gave none of that name.
    """
    directory = Path(model).expanduser()
    if directory.is_dir():
        return directory
    if directory.is_file():
        raise InvalidModel("is a file, not a directory", where=model, cure=f"Give the directory that holds {holds}.")
    name, revision = split_revision(model)
    if is_directory_name(name):
        raise InvalidModel("there is no such directory", where=model, cure="Check the path of the base model.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # the hub's client raises many types: no network, no such name, no permission
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InvalidModel(
            f"is neither a directory nor a model that the hub gave us ({said})",
            where=model,
            cure=f"Check the name and the network, or give a directory with {holds}.",
        ) from error
