"""What users give, read into what the wire carries."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steep.spec.job import JobSpec
from steep.spec.load import load_spec, parse_spec

AnySpec = JobSpec | Mapping[str, Any] | str | os.PathLike[str]


def read_spec(spec: AnySpec) -> JobSpec:
    """A job spec, from the path of a job file, from plain values, or as it is.

    Relative paths begin at the job file's directory, and in plain values where we are.

    Raises:
        InvalidSpec: missing or malformed file, unknown key, bad value.
    """
    if isinstance(spec, JobSpec):
        return spec
    if isinstance(spec, Mapping):
        return parse_spec(dict(spec), directory=Path.cwd())
    return load_spec(Path(spec))


def given(**values: Any) -> dict[str, Any]:
    """Those values that were given."""
    return {name: value for name, value in values.items() if value is not None}
