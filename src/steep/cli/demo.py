"""`steep demo`: the whole of it on this machine, with text that every Python installation has."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path

import typer

from steep.cli.run import JsonOption, SetOption

DATA = Path(__file__).resolve().parents[1] / "data"


def demo(
    directory: Path = typer.Option(Path("steep-demo"), "--dir", help="Where to put it: corpus, job file and run."),
    base: str = typer.Option(
        str(DATA / "tiny-base"),
        "--base",
        metavar="MODEL",
        help="Another base than the tiny one that comes with Steep.",
        show_default=False,
    ),
    overrides: list[str] = SetOption,
    json: bool = JsonOption,
) -> None:
    """Continued pretraining on two CPU cores in minutes: a tiny base learns Python's own documentation.

    Ends with what was gained and forgotten. The same command again goes on where it was.
    """
    from steep.artifacts.rundir import RunDirectory
    from steep.cli.run import work
    from steep.spec.load import load_spec

    job = make_job(directory, base)
    spec = load_spec(job, overrides=overrides)
    work(RunDirectory(directory / "run"), spec, until=None, json=json)
    if not json:
        _next_steps(job)


def make_job(directory: Path, base: str) -> Path:
    """Gather the corpus and write the job file into `directory`, unless they are there; returns the job file.

    Raises:
        InvalidModel: the base is a path, and nothing is there.
    """
    from steep.artifacts.files import write_atomic
    from steep.cli.output import say
    from steep.cli.pythontext import gather
    from steep.spec.errors import InvalidModel
    from steep.spec.units import format_bytes

    local = Path(base).expanduser()
    if local.is_absolute() and not local.is_dir():
        raise InvalidModel("there is no model", where=base, cure="Reinstall Steep, or give another --base.")
    gathered = gather(directory / "corpus")
    if gathered:
        say(f"Gathered {format_bytes(gathered)} of this Python's own documentation and sources.")
    job = directory / "job.yaml"
    place = str(local.resolve()) if local.is_dir() else base
    text = (DATA / "demo.yaml").read_text(encoding="utf-8").replace('"@base@"', jsonlib.dumps(place))
    if not job.exists() or job.read_text(encoding="utf-8") != text:
        write_atomic(job, text)
    return job


def _next_steps(job: Path) -> None:
    import shlex

    from steep.cli.paths import shown, steep_command

    print("\nThen your own text: put it under corpus.sources in the job file, and")
    print(f"  {steep_command()} run {shlex.quote(shown(job.resolve()))} --dir runs/mine")
