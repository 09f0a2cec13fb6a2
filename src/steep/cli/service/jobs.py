"""`steep jobs`: everything about the jobs of a service."""

from __future__ import annotations

import typer

from steep.cli.service import download, following, looking, orders, submit

app = typer.Typer(
    name="jobs", no_args_is_help=True, help="Jobs of the service: submit, watch, steer, and what they came to."
)
app.command("submit")(submit.submit)
app.command("list")(looking.list_jobs)
app.command("show")(looking.show)
app.command("watch")(following.watch)
app.command("logs")(following.logs)
app.command("events")(following.events)
app.command("pause")(orders.pause)
app.command("resume")(orders.resume)
app.command("cancel")(orders.cancel)
app.command("declare-lost")(orders.declare_lost)
app.command("update")(orders.update)
app.command("rollback")(orders.rollback)
app.command("clone")(orders.clone)
app.command("branch")(orders.branch)
app.command("delete")(orders.delete)
app.command("results")(looking.results)
app.command("download")(download.download)
