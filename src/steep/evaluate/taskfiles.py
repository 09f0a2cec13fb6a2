"""What local tasks are made of: the YAML file and every local file that it names, so that a change in any is noticed.

The harness is not imported, as its import takes seconds and a complete stage is to be skipped in none.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from steep.artifacts.files import hash_file, hash_text

_YAML = (".yaml", ".yml")


def fingerprint_tasks(tasks: Sequence[str]) -> str:
    """Changes with the names of the tasks, and with the content of any local file that one of them is made of."""
    facts = []
    for task in tasks:
        files = task_files(Path(task)) if task.endswith(_YAML) else []
        facts += [task, *(f"{path.name}={hash_file(path)}" for path in files)]
    return hash_text(*facts)


def task_files(file: Path) -> list[Path]:
    """The files of a YAML task: itself, what it includes, its data, and the modules of its functions; sorted.

    Files that are missing are left out: whoever loads the task says so.
    """
    found: set[Path] = set()
    waiting = [file.expanduser()]
    while waiting:
        path = waiting.pop().resolve()
        if path in found or not path.is_file():
            continue
        found.add(path)
        if path.suffix in _YAML:
            waiting += _named(path)
    return sorted(found)


def strings_in(value: Any) -> Iterator[str]:
    """Every string in nested mappings, lists and tuples."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from strings_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from strings_in(each)


def _named(file: Path) -> Iterator[Path]:
    """The files that a YAML file names."""
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError):
        return  # the file itself is known, and whoever loads the task says what is wrong with it
    if not isinstance(values, Mapping):
        return
    options = values.get("dataset_kwargs") or {}
    data = options if isinstance(options, Mapping) else {}
    for text in strings_in([values.get("include"), values.get("task"), data.get("data_files")]):
        yield from _matching(file.parent / text)
    for text in strings_in([values.get("dataset_path"), data.get("data_dir")]):  # taken from the current directory
        yield from (path for path in Path(text).rglob("*") if path.is_file())
    for function in (text for text in strings_in(list(values.values())) if isinstance(text, _Function)):
        yield file.parent / f"{function.rpartition('.')[0].replace('.', '/')}.py"


def _matching(path: Path) -> list[Path]:
    """The file of that path, or those that the path stands for as a pattern."""
    return [path] if path.exists() else [Path(found) for found in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - Path.glob takes no absolute pattern


class _Function(str):
    """`module.function`, as the harness writes it after `!function`."""


class _Loader(yaml.SafeLoader):
    """Safe, and knows the harness's tag; no function is imported."""


def _function(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> _Function:
    return _Function(loader.construct_scalar(node))


_Loader.add_constructor("!function", _function)
