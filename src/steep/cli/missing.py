"""Whether what a job file names on this machine is there, before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steep.artifacts.hub import is_directory_name
from steep.corpus.missing import missing_sources
from steep.corpus.sources import is_missing
from steep.spec.errors import InvalidInput, InvalidSpec
from steep.spec.job import JobSpec, Source
from steep.spec.load import is_remote

CURE = "Mend the paths; a relative one starts at the job file's own directory."


def require_paths(spec: JobSpec, job: Path, *, text_alone: bool = False, cure: str = CURE) -> None:
    """Look for the base, the sources and the task files of a job. Names in the hub, URLs and globs are left alone.

    Args:
        spec: of the job, its local paths absolute.
        job: the file that it was read from.
        text_alone: look for the sources alone: only these are read here.
        cure: what to do about it.

    Raises:
        InvalidSpec: names every path that is not there, with its key.
    """
    missing = missing_sources(spec)
    if not text_alone:
        missing = {**_missing_models(spec), **missing, **_missing_tasks(spec)}
    if missing:
        lines = [f"{key}: {path}" for key, path in missing.items()]
        raise InvalidSpec(
            "\n  ".join(["names what is not there:", *lines]),
            where=str(job),
            cure=cure,
        )


def require_measured(tasks: Sequence[str], texts: Sequence[Source], *, tasks_too: bool = True) -> None:
    """Look for what a checkpoint is to be measured on. See `require_paths`; raises InvalidInput.

    Args:
        tasks: names, or paths of YAML files.
        texts: as sources of text.
        tasks_too: tasks are read on this machine.
    """
    missing = [f"--text {text.path}" for text in texts if is_missing(text)]
    missing += [f"--task {task}" for task in tasks if tasks_too and _is_missing_task(task)]
    if missing:
        raise InvalidInput("there is no such file or directory", where=", ".join(missing), cure="Check the path.")


def _missing_models(spec: JobSpec) -> dict[str, str]:
    scratch = spec.base.from_scratch
    named = {"base.model": spec.base.model, "base.from_scratch.tokenizer": scratch.tokenizer if scratch else None}
    return {key: name for key, name in named.items() if name and is_directory_name(name) and not Path(name).exists()}


def _missing_tasks(spec: JobSpec) -> dict[str, str]:
    tasks = enumerate(spec.evaluation.tasks)
    return {f"evaluation.tasks.{number}": task for number, task in tasks if _is_missing_task(task)}


def _is_missing_task(task: str) -> bool:
    return task.endswith((".yaml", ".yml")) and not is_remote(task) and not Path(task).exists()
