"""`steep demo`: the whole of it on this machine, with text that every Python installation has."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from pathlib import Path

import typer

from steep.cli.run import JsonOption, SetOption

DATA = Path(__file__).resolve().parents[1] / "data"
TINY_BASE = DATA / "tiny-base"


def demo(
    directory: Path = typer.Option(Path("steep-demo"), "--dir", help="Where to put it: corpus, job file and run."),
    base: str | None = typer.Option(
        None,
        "--base",
        metavar="MODEL",
        help="Another base than the tiny one that comes with Steep.",
        show_default=False,
    ),
    overrides: list[str] = SetOption,
    json: bool = JsonOption,
) -> None:
    """Continued pretraining on two CPU cores in minutes: a tiny base learns Python's own documentation.

    Ends with what was gained and forgotten. The same command again goes on where it was, with the job file as it then is.
    """
    from steep.artifacts.rundir import RunDirectory
    from steep.cli.paths import require_directory
    from steep.cli.run import work
    from steep.spec.load import load_spec

    require_directory(directory, "--dir")
    was_there = (directory / "job.yaml").exists()
    job = make_job(directory, base or str(TINY_BASE), overrides)
    if was_there and base is not None:
        overrides = [f"base={jsonlib.dumps(_place(base))}", *overrides]
    spec = load_spec(job, overrides=overrides)
    work(RunDirectory(directory / "run"), spec, until=None, json=json)
    if not json:
        _next_steps(job)


def make_job(directory: Path, base: str, overrides: Sequence[str] = ()) -> Path:
    """Gather the corpus and write the job file into `directory`, unless they are there; returns the job file.

    One that is there is the user's: it is left as it is, and what is changed beside it is kept in the run alone.

    Raises:
        InvalidModel: the base is a path, and nothing is there.
        InvalidSpec: an override sets nothing.
    """
    from steep.artifacts.files import write_atomic
    from steep.cli.output import say
    from steep.cli.pythontext import gather
    from steep.spec.units import format_bytes

    job = directory / "job.yaml"
    # what is wrong with it is said before anything is gathered
    text = None if job.exists() else _job_text(base, overrides)
    gathered = gather(directory / "corpus")
    if gathered:
        say(f"Gathered {format_bytes(gathered)} of this Python's own documentation and sources.")
    if text is not None:
        write_atomic(job, text)
    return job


def _job_text(base: str, overrides: Sequence[str]) -> str:
    """The job file with its comments, or, where something is set, without."""
    import yaml

    from steep.spec.load import parse_spec, place_of, read_yaml, set_value

    template = DATA / "demo.yaml"
    text = template.read_text(encoding="utf-8").replace('"@base@"', jsonlib.dumps(_place(base)))
    if not overrides:
        return text
    values = read_yaml(text)
    for override in overrides:
        set_value(values, override)
    parse_spec(values, where=place_of(template, overrides))
    return f"# The job of `steep demo`, with what --set changed.\n{yaml.safe_dump(values, sort_keys=False, width=120)}"


def _place(base: str) -> str:
    """A base that is here by its absolute path, any other as it was given."""
    from steep.spec.errors import InvalidModel

    local = Path(base).expanduser()
    if local.is_absolute() and not local.is_dir():
        raise InvalidModel("there is no model", where=base, cure="Reinstall Steep, or give another --base.")
    return str(local.resolve()) if local.is_dir() else base


def _next_steps(job: Path) -> None:
    import shlex

    from steep.cli.paths import shown, steep_command

    print("\nThen your own text: put it under corpus.sources in the job file, and")
    print(f"  {steep_command()} run {shlex.quote(shown(job.resolve()))} --dir runs/mine")
