"""`steep jobs pause`, `resume`, `cancel`, `declare-lost`, `update`, `rollback`, `clone`, `branch`, `delete`: what can be asked of a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from steep.cli.service.options import ChangesOption, JobArgument, JsonOption, NewNameOption, YesOption

if TYPE_CHECKING:
    from steep.spec.api.jobs import JobView
    from steep.spec.service import Limits

JobsArgument = typer.Argument(metavar="JOB...", help="Ids of the jobs, or names that one job alone has.")


def pause(jobs: list[str] = JobsArgument, json: bool = JsonOption) -> None:
    """Save a checkpoint and hold the job; its GPUs are free for others. `steep jobs resume` lets it go on."""
    _ask("pause", jobs, json)


def resume(jobs: list[str] = JobsArgument, json: bool = JsonOption) -> None:
    """Let a job that is held go on, from its newest checkpoint."""
    _ask("resume", jobs, json)


def cancel(jobs: list[str] = JobsArgument, json: bool = JsonOption) -> None:
    """End a job for good. What it has made stays: checkpoints, results, logs."""
    _ask("cancel", jobs, json)


def declare_lost(job: str = JobArgument, yes: bool = YesOption, json: bool = JsonOption) -> None:
    """Say that the machine of a job's worker is gone for good, so that its GPUs are lent again. Asks first."""
    from steep.cli.output import print_json
    from steep.cli.service.asking import sure
    from steep.cli.service.cards import sentence
    from steep.cli.service.connect import connected, find_job

    with connected() as client:
        found = find_job(client, job)
        question = (
            f"Is the machine that {found} worked on gone for good? The job goes on elsewhere, or ends if it was cancelled, "
            "and its GPUs are lent to others. Should its worker still run, both use them. Say so only when you are sure."
        )
        if not sure(question, yes):
            return
        view = client.jobs.declare_lost(found).view
    print_json(view.model_dump(mode="json")) if json else print(sentence(view))


def _ask(order: str, jobs: Sequence[str], json: bool) -> None:
    """Give an order to each job, and print where each stands then. One that refuses keeps no other from being asked."""
    from steep.cli.output import print_json
    from steep.cli.service.cards import sentence
    from steep.cli.service.connect import connected, find_job
    from steep.spec.errors import Conflict

    views: list[JobView] = []
    refused: Conflict | None = None
    with connected() as client:
        for job in [find_job(client, job) for job in jobs]:  # all are found before anything is asked of the first
            try:
                views.append(getattr(client.jobs, order)(job).view)
            except Conflict as error:
                refused = refused or error
                if error is not refused and not json:
                    print(f"{job}: {error}")
                continue
            if not json:
                print(sentence(views[-1]))
    if json and views:
        print_json([view.model_dump(mode="json") for view in views])
    if refused is not None:
        raise refused


def update(
    job: str = JobArgument,
    priority: int | None = typer.Option(None, "--priority", metavar="NUMBER", help="From -100 to 100."),
    tags: list[str] = typer.Option([], "--tag", metavar="TAG", help="Its tags from now on, in place of the old ones."),
    cost: float | None = typer.Option(None, "--cost-limit", metavar="AMOUNT", help="What it may cost."),
    time: str | None = typer.Option(None, "--time-limit", metavar="DURATION", help="How long it may work, as '20 h'."),
    tokens: str | None = typer.Option(None, "--token-limit", metavar="TOKENS", help="What it may train, as '2B'."),
    json: bool = JsonOption,
) -> None:
    """Change a job while it lives: its priority, its tags, its limits. What is not given stays."""
    from steep.cli.output import print_json
    from steep.cli.service.cards import sentence
    from steep.cli.service.connect import connected, find_job
    from steep.client.reading import given
    from steep.spec.errors import InvalidInput

    limits: dict[str, Any] = given(cost=cost, time=time, tokens=tokens)
    changed = given(priority=priority, tags=tuple(tags) or None)
    if not limits and not changed:
        raise InvalidInput(
            "nothing is to be changed", where="steep jobs update", cure="Give --priority, --tag or a limit."
        )
    with connected() as client:
        found = find_job(client, job)
        if limits:
            changed["limits"] = _limits(limits)
        view = client.jobs.change(found, **changed).view
    print_json(view.model_dump(mode="json")) if json else print(sentence(view))


def _limits(values: dict[str, Any]) -> Limits:
    """Limits as people write them, such as a time of `20 h`."""
    from pydantic import ValidationError

    from steep.spec.errors import InvalidInput
    from steep.spec.service import Limits

    try:
        return Limits(**values)
    except ValidationError as error:
        first = error.errors()[0]
        option = f"--{str(first['loc'][0]).rstrip('s')}-limit"
        raise InvalidInput(first["msg"].removeprefix("Value error, "), where=option, cure="Mend it.") from error


def rollback(
    job: str = JobArgument,
    step: int = typer.Option(..., "--to", metavar="STEP", help="The checkpoint to go back to."),
    json: bool = JsonOption,
) -> None:
    """Set the checkpoints after STEP aside, and train on from STEP. Nothing is deleted."""
    from steep.cli.output import print_json
    from steep.cli.service.cards import sentence
    from steep.cli.service.connect import connected, find_job

    with connected() as client:
        view = client.jobs.rollback(find_job(client, job), step).view
    print_json(view.model_dump(mode="json")) if json else print(sentence(view))


def clone(
    job: str = JobArgument,
    name: str | None = NewNameOption,
    changes: list[str] = ChangesOption,
    json: bool = JsonOption,
) -> None:
    """Submit a new job like another one."""
    from steep.cli.service.connect import connected, find_job

    with connected() as client:
        view = client.jobs.clone(find_job(client, job), name=name, set=_values(changes)).view
    _say_new(view, json)


def branch(
    job: str = JobArgument,
    step: int = typer.Option(..., "--from", metavar="STEP", help="The checkpoint to go on from, with all its state."),
    name: str | None = NewNameOption,
    changes: list[str] = ChangesOption,
    json: bool = JsonOption,
) -> None:
    """Submit a new job that goes on from a checkpoint of another. From the trunk of a WSD run it decays from there."""
    from steep.cli.service.connect import connected, find_job

    with connected() as client:
        view = client.jobs.branch(find_job(client, job), step, name=name, set=_values(changes)).view
    _say_new(view, json)


def _values(changes: Sequence[str]) -> dict[str, Any]:
    """Changed fields by dotted path, each with its value as a job file would hold it."""
    from steep.spec.load import read_override

    return dict(read_override(change) for change in changes)


def _say_new(view: JobView, json: bool) -> None:
    from steep.cli.output import print_json
    from steep.cli.service.cards import sentence

    if json:
        print_json(view.model_dump(mode="json"))
    else:
        print(sentence(view))
        print(f"`steep jobs watch {view.id}` shows it at work.")


def delete(jobs: list[str] = JobsArgument, yes: bool = YesOption, json: bool = JsonOption) -> None:
    """Delete jobs that have ended, with all their files, and say how many bytes that freed. Asks first."""
    from steep.cli.output import print_json
    from steep.cli.service.asking import sure
    from steep.cli.service.connect import connected, find_job
    from steep.spec.units import format_bytes

    with connected() as client:
        found = [client.jobs.get(find_job(client, job)).view for job in jobs]
        names = ", ".join(f"{view.name} ({view.id}, {format_bytes(view.cost.stored_bytes)})" for view in found)
        if not sure(f"Delete {names}, with checkpoints, results and logs?", yes):
            return
        freed = {view.id: client.jobs.delete(view.id).freed_bytes for view in found}
    if json:
        print_json([{"id": job, "freed_bytes": size} for job, size in freed.items()])
    else:
        for job, size in freed.items():
            print(f"{job} deleted; {format_bytes(size)} freed.")
