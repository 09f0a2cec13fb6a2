"""`steep secrets`: what jobs need and nobody may read, such as a hub token."""

from __future__ import annotations

import typer

from steep.cli.service.options import JsonOption, ProjectOption, YesOption

app = typer.Typer(
    name="secrets", no_args_is_help=True, help="Secrets that workers get and nobody reads, such as HF_TOKEN."
)
NameArgument = typer.Argument(metavar="NAME", help="Such as HF_TOKEN.")


@app.command("set")
def set_secret(
    name: str = NameArgument,
    from_stdin: bool = typer.Option(False, "--stdin", help="Read the value from standard input instead of asking."),
    project: str | None = ProjectOption,
    json: bool = JsonOption,
) -> None:
    """Store a secret, in place of an earlier one. It is encrypted, and is never shown again."""
    from steep.cli.output import print_json
    from steep.cli.service.asking import secret
    from steep.cli.service.connect import connected

    value = secret(f"Value of {name}", from_stdin=from_stdin, option="--stdin")
    with connected() as client:
        view = client.secrets.set(name, value, project=project)
    print_json(view.model_dump(mode="json")) if json else print(f"{view.name} is stored for project {view.project}.")


@app.command("list")
def list_secrets(project: str | None = ProjectOption, json: bool = JsonOption) -> None:
    """Names of secrets; their values are never shown."""
    from steep.cli.output import print_json
    from steep.cli.service.connect import connected
    from steep.cli.tables import moment, print_table

    with connected() as client:
        views = list(client.secrets.list(project=project))
    if json:
        print_json([view.model_dump(mode="json") for view in views])
        return
    rows = ([one.name, one.project, moment(one.updated_at)] for one in views)
    print_table(("name", "project", "stored"), rows, empty="There are no secrets.")


@app.command()
def delete(
    name: str = NameArgument, project: str | None = ProjectOption, yes: bool = YesOption, json: bool = JsonOption
) -> None:
    """Forget a secret. Asks first."""
    from steep.cli.output import print_json
    from steep.cli.service.asking import sure
    from steep.cli.service.connect import connected

    if not sure(f"Delete the secret {name}? Jobs that need it will fail.", yes):
        return
    with connected() as client:
        client.secrets.delete(name, project=project)
    print_json({"name": name, "deleted": True}) if json else print(f"{name} is deleted.")
