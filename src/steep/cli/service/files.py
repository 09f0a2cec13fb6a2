"""`steep files`: text of one's own on the server, for jobs to read."""

from __future__ import annotations

from pathlib import Path

import typer

from steep.cli.service.options import JsonOption, ProjectOption, YesOption

app = typer.Typer(name="files", no_args_is_help=True, help="Uploaded files; a job names one as steep://files/ID.")
FileArgument = typer.Argument(metavar="FILE", help="The file's id.")


@app.command()
def upload(
    paths: list[Path] = typer.Argument(metavar="PATH...", help="Files here."),
    project: str | None = ProjectOption,
    json: bool = JsonOption,
) -> None:
    """Upload files, each checked by its hash. `steep jobs submit` does this by itself where it is needed."""
    from steep.cli.output import print_json
    from steep.cli.service.connect import connected
    from steep.cli.service.sending import UPLOADED
    from steep.cli.service.transfer import shown_transfer
    from steep.spec.units import format_bytes

    views = []
    with connected() as client:
        for path in paths:
            size_bytes = path.stat().st_size if path.is_file() else 0
            with shown_transfer(f"Uploading {path.name}", size_bytes) as count:
                views.append(client.files.upload(path, project=project, count=count))
            if not json:
                print(f"{path.name} ({format_bytes(size_bytes)}) is there as {UPLOADED}{views[-1].id}")
    if json:
        print_json([view.model_dump(mode="json") for view in views])


@app.command("list")
def list_files(project: str | None = ProjectOption, json: bool = JsonOption) -> None:
    """Files that were uploaded, the newest first."""
    from steep.cli.output import print_json
    from steep.cli.service.connect import connected
    from steep.cli.tables import moment, print_table
    from steep.spec.units import format_bytes

    with connected() as client:
        views = list(client.files.list(project=project))
    if json:
        print_json([view.model_dump(mode="json") for view in views])
        return
    rows = ([one.id, one.project, format_bytes(one.size_bytes), moment(one.created_at), one.name] for one in views)
    print_table(("id", "project", "size", "uploaded", "name"), rows, empty="There are no files.", right=("size",))


@app.command()
def download(
    file: str = FileArgument,
    to: Path = typer.Option(
        Path(), "--to", metavar="PATH", help="A directory, or the file's new path; here by default."
    ),
    json: bool = JsonOption,
) -> None:
    """Bring a file here, checked by its hash. The same command again goes on where it was."""
    from steep.cli.output import print_json
    from steep.cli.paths import require_directory, shown
    from steep.cli.service.connect import connected
    from steep.cli.service.transfer import shown_transfer

    require_directory(to if to.is_dir() else to.parent, "--to")
    with connected() as client:
        view = client.files.get(file)
        with shown_transfer(f"Downloading {view.name}", view.size_bytes) as count:
            place = client.files.download(file, to, count=count).resolve()
    if json:
        print_json({"id": file, "path": str(place), "bytes": view.size_bytes})
    else:
        print(f"{view.name} is in {shown(place)}.")


@app.command()
def delete(
    files: list[str] = typer.Argument(metavar="FILE...", help="Ids of the files."),
    yes: bool = YesOption,
    json: bool = JsonOption,
) -> None:
    """Delete files, and say how many bytes that freed. Asks first."""
    from steep.cli.output import print_json
    from steep.cli.service.asking import sure
    from steep.cli.service.connect import connected
    from steep.spec.units import format_bytes

    with connected() as client:
        views = [client.files.get(file) for file in files]
        if not sure(f"Delete {', '.join(f'{view.name} ({view.id})' for view in views)}?", yes):
            return
        freed = {view.id: client.files.delete(view.id).freed_bytes for view in views}
    if json:
        print_json([{"id": file, "freed_bytes": size} for file, size in freed.items()])
    else:
        for file, size in freed.items():
            print(f"{file} deleted; {format_bytes(size)} freed.")
