"""`steep keys`: who may use the service, and as what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import typer

from steep.cli.service.options import JsonOption, YesOption

if TYPE_CHECKING:
    from steep.spec.api.keys import KeyView

app = typer.Typer(name="keys", no_args_is_help=True, help="API keys: who may use the service, and as what.")
KeyArgument = typer.Argument(metavar="KEY", help="The key's id.")
Role = Literal["viewer", "member", "admin"]
DAY_SECONDS = 86_400.0
HOUR_SECONDS = 3600.0


@app.command()
def create(
    name: str = typer.Argument(metavar="NAME", help="Who or what it is for."),
    role: Role = typer.Option("member", "--role", metavar="ROLE", help="viewer, member or admin."),
    project: str | None = typer.Option(None, "--project", metavar="NAME", help="Confined to this project."),
    expires: str | None = typer.Option(None, "--expires", metavar="DURATION", help="How long it is good, as '90 d'."),
    json: bool = JsonOption,
) -> None:
    """Make a key. It is printed this once, alone on standard output, and cannot be seen again."""
    from steep.cli.output import print_json, say
    from steep.cli.service.connect import connected

    with connected() as client:
        seconds = None if expires is None else _seconds(expires)
        key = client.keys.create(name, role=role, project=project, expires_in_seconds=seconds)
    if json:
        print_json(key.model_dump(mode="json"))
        return
    say(f"{_sentence(key)} It is shown this once:")
    print(key.secret)


@app.command("list")
def list_keys(json: bool = JsonOption) -> None:
    """All keys, revoked ones too."""
    from steep.cli.output import print_json
    from steep.cli.service.connect import connected
    from steep.cli.tables import print_table

    with connected() as client:
        views = list(client.keys.list())
    if json:
        print_json([view.model_dump(mode="json") for view in views])
        return
    rows = map(_row, views)
    headers = ("id", "begins", "role", "project", "created", "last used", "state", "name")
    print_table(headers, rows, empty="There are no keys.")


@app.command("get")
def get_key(key: str = KeyArgument, json: bool = JsonOption) -> None:
    """One key: what it may do, when it was used, until when it is good."""
    from steep.cli.output import print_json
    from steep.cli.service.connect import connected
    from steep.cli.tables import ago, moment

    with connected() as client:
        view = client.keys.get(key)
    if json:
        print_json(view.model_dump(mode="json"))
        return
    print(_sentence(view))
    print(f"  begins      {view.prefix}...")
    print(f"  state       {_state(view)}")
    print(f"  created     {moment(view.created_at)}")
    print(f"  expires     {'never' if view.expires_at is None else moment(view.expires_at)}")
    print(f"  last used   {ago(view.last_used_at)}")


@app.command()
def update(
    key: str = KeyArgument,
    name: str | None = typer.Option(None, "--name", metavar="NAME", help="Another name."),
    role: Role | None = typer.Option(None, "--role", metavar="ROLE", help="viewer, member or admin."),
    json: bool = JsonOption,
) -> None:
    """Change a key's name or role."""
    from steep.cli.output import print_json
    from steep.cli.service.connect import connected
    from steep.spec.errors import InvalidInput

    if name is None and role is None:
        raise InvalidInput("nothing is to be changed", where="steep keys update", cure="Give --name or --role.")
    with connected() as client:
        view = client.keys.change(key, name=name, role=role)
    print_json(view.model_dump(mode="json")) if json else print(_sentence(view))


@app.command()
def revoke(key: str = KeyArgument, yes: bool = YesOption, json: bool = JsonOption) -> None:
    """Let a key open nothing from now on. What was done with it stays on record. Asks first."""
    from steep.cli.output import print_json
    from steep.cli.service.asking import sure
    from steep.cli.service.connect import connected

    with connected() as client:
        view = client.keys.get(key)
        if not sure(f"Revoke the key {view.name} ({view.id}) for good?", yes):
            return
        view = client.keys.revoke(key)
    print_json(view.model_dump(mode="json")) if json else print(f"Key {view.id} ({view.name}) opens nothing any more.")


@app.command()
def usage(
    key: str = KeyArgument,
    by: Literal["hour", "day"] = typer.Option("day", "--by", metavar="SPAN", help="Counted by hour, or by day."),
    json: bool = JsonOption,
) -> None:
    """Requests made with a key, by day or by hour; spans without any are left out."""
    from steep.cli.output import print_json
    from steep.cli.service.connect import connected
    from steep.cli.tables import moment, print_table

    with connected() as client:
        used = client.keys.usage(key, bucket_seconds=DAY_SECONDS if by == "day" else HOUR_SECONDS)
    if json:
        print_json(used.model_dump(mode="json"))
        return
    begins = (used.since + i * used.bucket_seconds for i in range(len(used.counts)))
    rows = [[moment(begin), f"{count:,}"] for begin, count in zip(begins, used.counts, strict=True) if count]
    print_table((f"{by} from", "requests"), rows, empty="It was not used.", right=("requests",))


def _row(view: KeyView) -> list[str]:
    from steep.cli.tables import ago, moment

    whose = view.project or "all"
    times = (moment(view.created_at), ago(view.last_used_at))
    return [view.id, f"{view.prefix}...", view.role, whose, *times, _state(view), view.name]


def _seconds(duration: str) -> float:
    from steep.spec.errors import InvalidInput
    from steep.spec.units import parse_seconds

    try:
        return parse_seconds(duration)
    except ValueError as error:
        raise InvalidInput(str(error), where="--expires", cure="Write it like '90 d'.") from None


def _sentence(view: KeyView) -> str:
    where = "all projects" if view.project is None else f"project {view.project}"
    return f"Key {view.id} ({view.name}): {view.role} of {where}."


def _state(view: KeyView) -> str:
    import time

    if view.revoked_at is not None:
        return "revoked"
    return "expired" if view.expires_at is not None and view.expires_at <= time.time() else "good"
