"""`steep jobs watch`, `logs` and `events`: follow a job while it works."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import typer

from steep.cli.service.options import JobArgument, JsonOption
from steep.spec.errors import EXIT_LEFT

if TYPE_CHECKING:
    from rich.console import Console

    from steep.cli.console import Screen
    from steep.client.client import Client
    from steep.spec.api.jobs import JobDetail

POLL_SECONDS = 0.5
FollowOption = typer.Option(False, "--follow", "-f", help="Go on until the job has ended; Ctrl-C leaves it at work.")


def watch(job: str = JobArgument, json: bool = JsonOption) -> None:
    """Watch a job until it has ended, and see what it came to. Ctrl-C leaves it at work.

    Ends with exit code 0 when it is done, 1 when it failed, 2 for invalid input, 3 when it is paused and can be resumed,
    130 when it was left at work.
    """
    from steep.cli.service.connect import connected, find_job

    with connected() as client:
        found = find_job(client, job)
        client.jobs.detail(found)  # a server that is not there is said at once; one that goes away later is waited for
    watch_to_the_end(found, json=json)


def watch_to_the_end(job: str, *, json: bool) -> None:
    """Show a job until it has ended or is held, then what it came to; raises how it ended unless that was well."""
    from rich.console import Console

    from steep.cli.output import print_json
    from steep.cli.service.connect import FOLLOWING_SECONDS, connected
    from steep.cli.service.outcome import outcome_error

    console = Console(stderr=json)
    try:
        with connected(patience_seconds=FOLLOWING_SECONDS) as client:
            detail = _follow(client, job, console)
    except KeyboardInterrupt:
        console.print(
            f"Left; the job goes on. `steep jobs watch {job}` shows it again, `steep jobs cancel {job}` ends it."
        )
        raise typer.Exit(EXIT_LEFT) from None
    error = outcome_error(detail)
    if json:
        print_json(detail.model_dump(mode="json"))
    if error is not None:
        raise error
    if not json:
        _conclude(job, console)


def _follow(client: Client, job: str, console: Console) -> JobDetail:
    """Show what its worker reports, and where it stands in between, until nothing more is to come."""
    from steep.cli.console import make_screen
    from steep.cli.service.cards import sentence

    screen, told, after = make_screen(console), "", None
    try:
        while True:
            detail = client.jobs.detail(job)
            standing = detail.standing
            after = _catch_up(client, job, screen, after)
            if standing.state != "running" and (now := f"{standing.state} {standing.detail}") != told:
                told = now
                screen.say(sentence(detail))
            if standing.is_terminal or standing.is_paused:
                return detail
            time.sleep(POLL_SECONDS)
    finally:
        screen.close()


def _catch_up(client: Client, job: str, screen: Screen, after: int | None) -> int | None:
    """Show the reports after one; returns the number of the last."""
    for report in client.jobs.reports(job, after=after):
        after = report.sequence
        screen.show(report)
    return after


def _conclude(job: str, console: Console) -> None:
    from steep.cli.service.connect import connected
    from steep.cli.summary import show_results

    with connected() as client:
        show_results(client.jobs.results(job), console)
    console.print("\nNext, bring the trained model here, or look at the checkpoints:", highlight=False)
    for command in (f"steep jobs download {job}", f"steep checkpoints list {job}"):
        console.print(f"  {command}", soft_wrap=True, highlight=False, markup=False)


def logs(
    job: str = JobArgument,
    stream: Literal["stdout", "stderr", "log"] = typer.Option(
        "stderr", "--stream", metavar="NAME", help="stderr, stdout or log."
    ),
    follow: bool = FollowOption,
) -> None:
    """What the job's workers printed: little, unless something went wrong. Secrets are taken out of it."""
    from steep.cli.output import say
    from steep.cli.service.connect import FOLLOWING_SECONDS, connected, find_job

    with connected() as client:
        found = find_job(client, job)
        client.jobs.detail(found)
    is_empty = True
    with connected(patience_seconds=FOLLOWING_SECONDS) as client:
        try:
            for text in client.jobs.logs(found, stream=stream, follow=follow):
                is_empty = False
                print(text, end="", flush=follow)
        except KeyboardInterrupt:
            say(f"Left; the job goes on. `steep jobs logs {found} --stream {stream} --follow` shows this again.")
            raise typer.Exit(EXIT_LEFT) from None
    if is_empty:
        say(f"Nothing was printed to {stream}. `steep jobs events {found}` tells what happened.")


def events(
    job: str | None = typer.Argument(None, metavar="[JOB]", help="Of this job; of all jobs by default."),
    follow: bool = FollowOption,
    json: bool = typer.Option(False, "--json", help="Print JSON: one object a line with --follow, else a list."),
) -> None:
    """What happened, in order: to a job, or to all of them."""
    from steep.cli.output import print_json, say
    from steep.cli.service.connect import connected, find_job
    from steep.cli.tables import answer_console

    console = answer_console()
    with connected() as client:
        if job is None:
            found = client.events.watch() if follow else client.events.list()
        else:
            of = find_job(client, job)
            found = client.jobs.watch(of) if follow else client.jobs.events(of)
        if json and not follow:
            print_json([event.model_dump(mode="json") for event in found])
            return
        try:
            for event in found:
                if json:
                    print(event.model_dump_json(), flush=True)
                    continue
                at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
                whose = "" if job else f"{event.job_id}  "
                console.print(f"{at}  {whose}{event.kind:<20} {event.message}".rstrip(), soft_wrap=True)
        except KeyboardInterrupt:
            who, name = ("jobs go", "") if job is None else ("the job goes", f" {of}")
            say(f"Left; {who} on. `steep jobs events{name} --follow` shows this again.")
            raise typer.Exit(EXIT_LEFT) from None
