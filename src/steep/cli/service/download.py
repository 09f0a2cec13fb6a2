"""`steep jobs download`: the trained model, or a checkpoint."""

from __future__ import annotations

from pathlib import Path

import typer

from steep.cli.service.options import JobArgument, JsonOption


def download(
    job: str = JobArgument,
    step: int | None = typer.Option(
        None, "--checkpoint", metavar="STEP", help="This checkpoint instead of the export."
    ),
    to: Path | None = typer.Option(
        None, "--to", metavar="DIR", help="Where to; by default a directory named after the job.", show_default=False
    ),
    json: bool = JsonOption,
) -> None:
    """Bring the export of a job here, or a checkpoint. Every file is checked; the same command again goes on where it was."""
    from steep.cli.output import print_json
    from steep.cli.paths import require_directory, shown
    from steep.cli.service.connect import FOLLOWING_SECONDS, connected, find_job
    from steep.cli.service.transfer import shown_transfer
    from steep.spec.errors import NotFound
    from steep.spec.units import format_bytes

    with connected() as client:
        view = client.jobs.get(find_job(client, job)).view
        files = list(client.exports.files(view.id) if step is None else client.checkpoints.files(view.id, step))
    if not files:
        raise NotFound("it has no export yet", where=view.id, cure=f"`steep jobs show {view.id}` says how far it is.")
    place = (to or Path(view.name if step is None else f"{view.name}-step-{step}")).resolve()
    require_directory(place, "--to")
    total_bytes = sum(file.size_bytes for file in files)
    with (
        connected(patience_seconds=FOLLOWING_SECONDS) as client,
        shown_transfer(f"Downloading {view.name}", total_bytes) as count,
    ):
        if step is None:
            client.exports.download(view.id, place, count=count)
        else:
            client.checkpoints.download(view.id, step, place, count=count)
    if json:
        print_json({"job": view.id, "step": step, "path": str(place), "bytes": total_bytes})
    else:
        what = "The export" if step is None else f"Checkpoint {step}"
        print(f"{what} of {view.name} ({format_bytes(total_bytes)}) is in {shown(place)}.")
