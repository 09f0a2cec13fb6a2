"""Whether what a job file names on this machine is there, before anything is started."""

from __future__ import annotations

from pathlib import Path

from steep.artifacts.hub import is_directory_name
from steep.corpus.missing import missing_sources
from steep.spec.errors import InvalidSpec
from steep.spec.job import JobSpec
from steep.spec.load import is_remote


def require_paths(spec: JobSpec, job: Path) -> None:
    """Look for the base, the sources and the task files of a job. Names in the hub, URLs and globs are left alone.

    Args:
        spec: of the job, its local paths absolute.
        job: the file that it was read from.

    Raises:
        InvalidSpec: names every path that is not there, with its key.
    """
    missing = {**_missing_models(spec), **missing_sources(spec), **_missing_tasks(spec)}
    if missing:
        lines = [f"{key}: {path}" for key, path in missing.items()]
        raise InvalidSpec(
            "\n  ".join(["names what is not there:", *lines]),
            where=str(job),
            cure="Mend the paths; a relative one starts at the job file's own directory.",
        )


def _missing_models(spec: JobSpec) -> dict[str, str]:
    scratch = spec.base.from_scratch
    named = {"base.model": spec.base.model, "base.from_scratch.tokenizer": scratch.tokenizer if scratch else None}
    return {key: name for key, name in named.items() if name and is_directory_name(name) and not Path(name).exists()}


def _missing_tasks(spec: JobSpec) -> dict[str, str]:
    files = {
        f"evaluation.tasks.{number}": task
        for number, task in enumerate(spec.evaluation.tasks)
        if task.endswith((".yaml", ".yml")) and not is_remote(task)
    }
    return {key: file for key, file in files.items() if not Path(file).exists()}
