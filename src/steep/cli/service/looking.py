"""`steep jobs list`, `show` and `results`: look at jobs."""

from __future__ import annotations

from typing import Any, Literal

import typer

from steep.cli.service.options import JobArgument, JsonOption

SHOWN = 30
PAUSED = "paused"
SORTABLE = Literal["created_at", "started_at", "ended_at", "queued_at", "name", "project", "priority", "state", "cost"]


def list_jobs(
    state: str | None = typer.Option(
        None, "--state", metavar="STATE", help="Those in this state, such as running or paused."
    ),
    tag: str | None = typer.Option(None, "--tag", metavar="TAG", help="Those with this tag."),
    project: str | None = typer.Option(None, "--project", metavar="NAME", help="Those of this project."),
    name: str | None = typer.Option(None, "--name", metavar="TEXT", help="Those with this text in their name."),
    sort: SORTABLE = typer.Option("created_at", "--sort", metavar="FIELD", help="created_at, name, state, cost..."),
    ascending: bool = typer.Option(False, "--ascending", help="The smallest first; otherwise the largest or newest."),
    everything: bool = typer.Option(False, "--all", help=f"All of them; otherwise the first {SHOWN}."),
    json: bool = JsonOption,
) -> None:
    """Jobs, the newest first: where each stands, why, and what it came to."""
    from itertools import islice

    from steep.cli.output import print_json, say
    from steep.cli.service.cards import print_jobs
    from steep.cli.service.connect import connected

    chosen = _chosen(state)
    with connected() as client:
        order: Literal["asc", "desc"] = "asc" if ascending else "desc"
        found = client.jobs.list(tag=tag, project=project, name=name, sort_by=sort, sort_order=order, **chosen)
        views = [job.view for job in (found if everything else islice(found, SHOWN + 1))]
    more, views = len(views) > SHOWN and not everything, views if everything else views[:SHOWN]
    if json:
        print_json([view.model_dump(mode="json") for view in views])
    else:
        is_filtered = any((state, tag, project, name))
        empty = "There are no such jobs." if is_filtered else "There are no jobs yet; `steep jobs submit` makes one."
        print_jobs(views, projects=len({view.project for view in views}) > 1, empty=empty)
    if more:
        say("There are more; --all shows them.")


def _chosen(state: str | None) -> dict[str, Any]:
    """What the list is asked for. A queued job that is held is shown as paused, so it is found by that word.

    Raises:
        InvalidInput: no state is called so.
    """
    from steep.spec.errors import InvalidInput
    from steep.spec.states import State

    if state is None:
        return {}
    if state == PAUSED:
        return {"paused": True}
    if state not in set(State):
        known = ", ".join([*map(str, State), PAUSED])
        raise InvalidInput(f"there is no state {state!r}", where="--state", cure=f"One of {known}.")
    return {"state": state}


def show(job: str = JobArgument, json: bool = JsonOption) -> None:
    """Everything that is known of a job: where it stands and why, its attempts, what it used, what it came to."""
    from steep.cli.output import print_json
    from steep.cli.service.cards import print_job
    from steep.cli.service.connect import connected, find_job

    with connected() as client:
        detail = client.jobs.detail(find_job(client, job))
    print_json(detail.model_dump(mode="json")) if json else print_job(detail)


def results(job: str = JobArgument, json: bool = JsonOption) -> None:
    """What was measured: the base and every checkpoint, what was selected and why."""
    from steep.cli.output import print_json
    from steep.cli.service.connect import connected, find_job
    from steep.cli.summary import show_results
    from steep.cli.tables import answer_console

    with connected() as client:
        measured = client.jobs.results(find_job(client, job))
    print_json(measured.model_dump(mode="json")) if json else show_results(measured, answer_console())
