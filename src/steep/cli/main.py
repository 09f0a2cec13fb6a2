"""`steep`: the command line. Commands import what they need when they run, so that `--help` is there at once."""

from __future__ import annotations

import os
import sys

import typer

from steep.cli import checkpoints, corpus, demo, lineage, run, score, spec, watch
from steep.cli.service import doctor, files, gpus, jobs, keys, login, projects, secrets, serve, up

SERVICE = "The service"

app = typer.Typer(
    name="steep",
    help="Continued pretraining of language models as a managed job, with proof of what was gained and what was forgotten.",
    epilog="Exit codes: 0 done, 1 failed, 2 invalid input, 3 stopped and resumable. With --debug, errors show their traceback.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("demo")(demo.demo)
app.command("status")(watch.status)
app.command("watch")(watch.watch)
app.command("plot")(watch.plot)
app.command("score")(score.score)
app.command("rollback")(lineage.rollback)
app.command("branch")(lineage.branch)
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(corpus.app, name="corpus")
app.add_typer(spec.app, name="spec")
app.command("up", rich_help_panel=SERVICE)(up.up)
app.command("serve", rich_help_panel=SERVICE)(serve.serve)
app.command("down", rich_help_panel=SERVICE)(up.down)
app.command("login", rich_help_panel=SERVICE)(login.login)
app.add_typer(jobs.app, name="jobs", rich_help_panel=SERVICE)
app.add_typer(files.app, name="files", rich_help_panel=SERVICE)
app.add_typer(secrets.app, name="secrets", rich_help_panel=SERVICE)
app.command("gpus", rich_help_panel=SERVICE)(gpus.gpus)
app.add_typer(projects.app, name="projects", rich_help_panel=SERVICE)
app.add_typer(keys.app, name="keys", rich_help_panel=SERVICE)
app.command("doctor", rich_help_panel=SERVICE)(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        from steep import __version__

        typer.echo(f"steep {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks. May stand anywhere in the command."),
) -> None:
    """Options of every command; `--debug` is taken out by `main` wherever it stands."""


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code; an error meant for users is shown without a traceback."""
    given = sys.argv[1:] if arguments is None else arguments
    if "--debug" in given:
        os.environ["STEEP_DEBUG"] = "1"
        given = [argument for argument in given if argument != "--debug"]
    try:
        app(args=given, prog_name="steep")
    except Exception as error:  # noqa: BLE001 - the last resort: whatever it is, the user must be told
        from steep.cli.output import explain

        sys.exit(explain(error))
