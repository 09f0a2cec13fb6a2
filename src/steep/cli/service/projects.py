"""`steep projects`: who may use how much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from steep.cli.service.options import JsonOption

if TYPE_CHECKING:
    from steep.spec.api.projects import Keeping, ProjectView, Quota

app = typer.Typer(name="projects", no_args_is_help=True, help="Projects: their quotas, their share, what they use.")
NameArgument = typer.Argument(metavar="NAME", help="Small letters, digits and dashes.")
GpusOption = typer.Option(None, "--gpus", metavar="NUMBER", help="GPUs at once, or none for no bound.")
JobsOption = typer.Option(None, "--jobs", metavar="NUMBER", help="Jobs at work at once, or none for no bound.")
StoredOption = typer.Option(None, "--stored", metavar="SIZE", help="Bytes kept, as '2 TB', or none for no bound.")
KeepAfterOption = typer.Option(
    None,
    "--keep-after",
    metavar="TIME",
    help="From so long after a job's end on, as '7 d', keep only some checkpoints.",
)
KeepLastOption = typer.Option(None, "--keep-last", metavar="NUMBER", min=1, help="Keep so many of the newest then.")
KeepBestOption = typer.Option(None, "--keep-best", metavar="NUMBER", min=1, help="Keep so many of the best then.")


@app.command("list")
def list_projects(json: bool = JsonOption) -> None:
    """Projects, what they may use and what they use now."""
    from steep.cli.output import print_json
    from steep.cli.service.connect import connected
    from steep.cli.tables import print_table
    from steep.spec.units import format_bytes

    with connected() as client:
        views = list(client.projects.list())
    if json:
        print_json([view.model_dump(mode="json") for view in views])
        return
    rows = (
        [
            one.name,
            f"{one.share:g}",
            _of(str(one.gpus_in_use), one.quota.gpus),
            _of(str(one.jobs_in_use), one.quota.jobs),
            _of(
                format_bytes(one.stored_bytes),
                None if one.quota.stored_bytes is None else format_bytes(one.quota.stored_bytes),
            ),
            format_bytes(one.freed_bytes),
            _kept(one.keep),
        ]
        for one in views
    )
    headers = ("name", "share", "GPUs", "jobs at work", "stored", "freed", "keeps")
    print_table(headers, rows, empty="There are no projects.", right=headers[1:-1])


@app.command()
def create(
    name: str = NameArgument,
    share: float = typer.Option(1.0, "--share", metavar="WEIGHT", help="In fair sharing with other projects."),
    gpus: str | None = GpusOption,
    jobs: str | None = JobsOption,
    stored: str | None = StoredOption,
    keep_after: str | None = KeepAfterOption,
    keep_last: int | None = KeepLastOption,
    keep_best: int | None = KeepBestOption,
    json: bool = JsonOption,
) -> None:
    """Make a project. Without quotas it may use whatever is free, and it keeps all checkpoints."""
    from steep.cli.service.connect import connected
    from steep.spec.api.projects import Keeping, Quota

    quota = _quota(Quota(), gpus, jobs, stored)
    keep = _keeping(Keeping(), keep_after, keep_last, keep_best)
    with connected() as client:
        _tell(client.projects.create(name, share=share, quota=quota, keep=keep), json)


@app.command()
def update(
    name: str = NameArgument,
    share: float | None = typer.Option(None, "--share", metavar="WEIGHT", help="In fair sharing with other projects."),
    gpus: str | None = GpusOption,
    jobs: str | None = JobsOption,
    stored: str | None = StoredOption,
    keep_after: str | None = KeepAfterOption,
    keep_last: int | None = KeepLastOption,
    keep_best: int | None = KeepBestOption,
    json: bool = JsonOption,
) -> None:
    """Change a project's share, quotas, or what it keeps of jobs that have ended. What is not given stays; `none` takes away.

    Pinned checkpoints, the selected one, the newest that is valid, and those that something descends from are always kept.
    """
    from steep.cli.service.connect import connected
    from steep.spec.errors import InvalidInput, NotFound

    bounds, keeps = (gpus, jobs, stored), (keep_after, keep_last, keep_best)
    if share is None and {*bounds, *keeps} == {None}:
        raise InvalidInput(
            "nothing is to be changed",
            where="steep projects update",
            cure="Give --share, --gpus, --keep-after or others.",
        )
    with connected() as client:
        old = next((one for one in client.projects.list() if one.name == name), None)
        if old is None:
            raise NotFound(
                "there is no such project", where=name, cure="`steep projects list` shows those that there are."
            )
        quota = None if bounds == (None, None, None) else _quota(old.quota, gpus, jobs, stored)
        keep = None if set(keeps) == {None} else _keeping(old.keep, *keeps)
        _tell(client.projects.change(name, share=share, quota=quota, keep=keep), json)


def _quota(old: Quota, gpus: str | None, jobs: str | None, stored: str | None) -> Quota:
    from steep.spec.api.projects import Quota

    return Quota(
        gpus=old.gpus if gpus is None else _count("--gpus", gpus),
        jobs=old.jobs if jobs is None else _count("--jobs", jobs),
        stored_bytes=old.stored_bytes if stored is None else _bytes(stored),
    )


def _keeping(old: Keeping, after: str | None, last: int | None, best: int | None) -> Keeping:
    from steep.spec.api.projects import Keeping

    return Keeping(
        after_seconds=old.after_seconds if after is None else _seconds(after),
        last=old.last if last is None else last,
        best=old.best if best is None else best,
    )


def _seconds(text: str) -> float | None:
    from steep.spec.errors import InvalidInput
    from steep.spec.units import parse_seconds

    if text == "none":
        return None
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise InvalidInput(str(error), where="--keep-after", cure="Write it like '7 d', or none to keep all.") from None


def _count(option: str, text: str) -> int | None:
    from steep.spec.errors import InvalidInput

    if text == "none":
        return None
    if not text.isdecimal():
        raise InvalidInput(f"{text!r} is not a number", where=option, cure="Give a whole number, or none for no bound.")
    return int(text)


def _bytes(text: str) -> int | None:
    from steep.spec.errors import InvalidInput
    from steep.spec.units import parse_bytes

    if text == "none":
        return None
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise InvalidInput(str(error), where="--stored", cure="Write it like '2 TB', or none for no bound.") from None


def _of(used: str, most: object) -> str:
    return used if most is None else f"{used} of {most}"


def _kept(keep: Keeping) -> str:
    from steep.spec.units import format_seconds

    if keep.after_seconds is None:
        return "all"
    return f"{keep.last} newest, {keep.best} best, {format_seconds(keep.after_seconds)} after the end"


def _tell(view: ProjectView, json: bool) -> None:
    from steep.cli.output import print_json
    from steep.spec.units import format_bytes

    if json:
        print_json(view.model_dump(mode="json"))
        return
    quota = view.quota
    bounds = [
        "any number of GPUs" if quota.gpus is None else f"{quota.gpus} GPUs",
        "any number of jobs" if quota.jobs is None else f"{quota.jobs} jobs at work",
        "any amount stored" if quota.stored_bytes is None else f"{format_bytes(quota.stored_bytes)} stored",
    ]
    print(
        f"Project {view.name}: share {view.share:g}, {', '.join(bounds)}; of checkpoints it keeps {_kept(view.keep)}."
    )
