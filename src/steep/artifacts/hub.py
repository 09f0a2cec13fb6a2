"""A base model or a tokenizer by what a job calls it: a directory, or an id of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steep.spec.errors import InvalidModel


def is_directory_name(model: str) -> bool:
    """Whether a model's name can be that of a directory alone: nothing in the hub is called so."""
    return model.count("/") > 1 or model.startswith((".", "/", "~"))


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
    name, _, revision = model.partition("@")
    if is_directory_name(name):
        raise InvalidModel("there is no such directory", where=model, cure="Check the path of the base model.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(patterns)))
    except Exception as error:  # the hub's client raises many types: no network, no such name, no permission
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InvalidModel(
            f"is neither a directory nor a model that the hub gave us ({said})",
            where=model,
            cure=f"Check the name and the network, or give a directory with {holds}.",
        ) from error
