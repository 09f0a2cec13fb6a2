"""`steep corpus inspect`: what a job's text comes to, and what was dropped and why, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from steep.cli.run import JobFile, JsonOption, SetOption

if TYPE_CHECKING:
    from steep.artifacts.rundir import RunDirectory
    from steep.spec.job import JobSpec

app = typer.Typer(name="corpus", no_args_is_help=True, help="The text of a job.")


@app.callback()
def _group() -> None:
    """The text of a job."""


@app.command()
def inspect(
    job: Path = JobFile,
    overrides: list[str] = SetOption,
    directory: Path | None = typer.Option(
        None,
        "--dir",
        metavar="RUN",
        help="Prepare in this run directory, where `steep run` finds it done; by default in a cache.",
        show_default=False,
    ),
    json: bool = JsonOption,
) -> None:
    """Prepare a job's corpus and account for it: documents, bytes, tokens, languages, drops with reasons, the split."""
    from steep.artifacts.rundir import RunDirectory
    from steep.cli.accounting import print_accounting, read_accounting
    from steep.cli.jobfile import read_job
    from steep.cli.output import print_json

    spec = read_job(job, overrides)
    run = RunDirectory(directory or _cache(spec))
    _prepare(run, spec, json=json)
    accounting = read_accounting(run)
    if json:
        print_json(accounting)
    else:
        print_accounting(accounting)


def _cache(spec: JobSpec) -> Path:
    """One directory for each different corpus, tokenizer and split."""
    from steep.artifacts.cache import cache_directory
    from steep.artifacts.files import hash_text

    parts = spec.model_dump_json(
        include={
            "base": True,
            "corpus": True,
            "replay": {"source"},
            "evaluation": {"general", "tasks", "max_tokens"},
            "seed": True,
        }
    )
    return cache_directory() / "inspect" / hash_text(parts)[:20]


def _prepare(run: RunDirectory, spec: JobSpec, *, json: bool) -> None:
    from rich.console import Console

    from steep.cli import launch
    from steep.cli.follow import follow
    from steep.spec.stages import Stage

    with run.lock():
        run.write_spec(spec)
    error = follow(run, Console(stderr=True), lambda: launch.start_worker(run, until=Stage.PREPARE))
    if error is not None:
        raise error
