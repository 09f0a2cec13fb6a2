"""A job file as commands read it: with what is given beside it, and with the text that every Python installation has.

A source may be `python://reference`, `python://docstrings` or `python://sources`: it stands for text of the Python that runs
this command, which is gathered into the cache. So an example works on any machine.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steep.spec.errors import InvalidCorpus
from steep.spec.job import JobSpec, Source
from steep.spec.load import parse_spec, place_of, read_values

PYTHON = "python://"
KINDS = ("reference", "docstrings", "sources")


def read_job(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    top: Mapping[str, Any] | None = None,
    service: Mapping[str, Any] | None = None,
    gather: bool = True,
) -> JobSpec:
    """Read and validate a job file. See `load_spec`.

    Args:
        path: of the file.
        overrides: `dotted.key=value` strings, as given with `--set`.
        top: values at the top level, in place of those in the file.
        service: values of its `service` part, in place of those in the file.
        gather: put the text of this Python in the place of `python://` sources; else `with_python_text` is left to do.

    Raises:
        InvalidSpec: missing or malformed file, unknown key, bad value.
        InvalidCorpus: this Python has no such text.
    """
    values = read_values(path, overrides=overrides)
    values.update(top or {})
    if service:
        below = values.get("service")
        values["service"] = {**(below if isinstance(below, dict) else {}), **service}
    spec = parse_spec(values, where=place_of(path, overrides), directory=path.resolve().parent)
    return with_python_text(spec) if gather else spec


def has_python_text(spec: JobSpec) -> bool:
    """Whether a source is `python://` text, which must be gathered first."""
    return any(source.path.startswith(PYTHON) for source in spec.corpus.sources)


def with_python_text(spec: JobSpec) -> JobSpec:
    """The same spec with each `python://` source as a directory of this machine.

    Raises:
        InvalidCorpus: there is no text of that kind.
    """
    if not has_python_text(spec):
        return spec
    sources = tuple(_local(source) for source in spec.corpus.sources)
    return spec.model_copy(update={"corpus": spec.corpus.model_copy(update={"sources": sources})})


def _local(source: Source) -> Source:
    if not source.path.startswith(PYTHON):
        return source
    kind = source.path.removeprefix(PYTHON)
    if kind not in KINDS:
        raise InvalidCorpus(
            "Python has no such text", where=source.path, cure=f"Write {PYTHON} and one of {', '.join(KINDS)}."
        )
    return source.model_copy(update={"path": str(_gathered() / kind)})


def _gathered() -> Path:
    """Where the text of this Python lies; gathered when it is first asked for."""
    from steep.artifacts.cache import cache_directory
    from steep.cli.output import say
    from steep.cli.pythontext import gather
    from steep.spec.units import format_bytes

    place = cache_directory() / "python-text" / ".".join(map(str, sys.version_info[:3]))
    place.parent.mkdir(parents=True, exist_ok=True)
    size = gather(place)
    if size:
        say(f"Gathered {format_bytes(size)} of this Python's own documentation and sources.")
    return place
