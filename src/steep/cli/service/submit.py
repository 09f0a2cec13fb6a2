"""`steep jobs submit`: a job file becomes a job of the service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from steep.cli.run import JobFile, SetOption
from steep.cli.service.options import JsonOption

if TYPE_CHECKING:
    from steep.client.client import Client
    from steep.spec.job import JobSpec


def submit(
    job: Path = JobFile,
    overrides: list[str] = SetOption,
    name: str | None = typer.Option(None, "--name", metavar="NAME", help="Another name than the file's."),
    tags: list[str] = typer.Option([], "--tag", metavar="TAG", help="A word to find it by, beside the file's."),
    project: str | None = typer.Option(None, "--project", metavar="NAME", help="Whose quota and view it is."),
    priority: int | None = typer.Option(
        None, "--priority", metavar="NUMBER", help="From -100 to 100; higher ones go first."
    ),
    gpu: str | None = typer.Option(None, "--gpu", metavar="MODEL", help="Model of GPU, such as H100."),
    gpu_count: int | None = typer.Option(None, "--gpu-count", metavar="NUMBER", help="GPUs, all or none."),
    hold: bool = typer.Option(False, "--hold", help="Queue it paused; `steep jobs resume` lets it begin."),
    upload: bool | None = typer.Option(
        None, "--upload/--no-upload", help="Upload local sources; by default where the server is not on this machine."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what it would take: tokens, memory, time, cost."),
    watch: bool = typer.Option(False, "--watch", help="Watch it until it has ended. Ctrl-C leaves it at work."),
    json: bool = JsonOption,
) -> None:
    """Submit a job. The service finds the GPUs, starts and watches it, and keeps its checkpoints.

    Local paths are taken from the job file's directory. Where the server is on another machine, local sources are uploaded.
    """
    from steep.cli.jobfile import has_python_text, read_job, with_python_text
    from steep.cli.output import print_json
    from steep.cli.service.cards import print_plan, sentence
    from steep.cli.service.connect import connected
    from steep.cli.service.following import watch_to_the_end
    from steep.client.reading import given

    service: dict[str, Any] = given(project=project, priority=priority, gpu=gpu, gpu_count=gpu_count)
    spec = read_job(
        job, overrides, top=given(name=name), service=service | ({"held": True} if hold else {}), gather=False
    )
    if tags:
        spec = spec.model_copy(update={"tags": tuple(dict.fromkeys((*spec.tags, *tags)))})
    with connected() as client:
        _require_paths(spec, job, client, upload)
        if has_python_text(spec):
            client.status()  # a server that is not there is said before minutes are spent on text for it
            spec = with_python_text(spec)
        if dry_run:
            plan = client.jobs.plan(spec)
            print_json(plan.model_dump(mode="json")) if json else print_plan(plan)
            return
        view = client.jobs.create(_sent(spec, client, upload)).view
    if watch:
        watch_to_the_end(view.id, json=json)
    elif json:
        print_json(view.model_dump(mode="json"))
    else:
        print(sentence(view))
        print(f"`steep jobs watch {view.id}` shows it at work.")


def _require_paths(spec: JobSpec, job: Path, client: Client, upload: bool | None) -> None:
    """Look for what is read here, so that no job waits for a device only to learn that a path is wrong."""
    from steep.cli.missing import CURE, require_paths
    from steep.cli.service.sending import is_here

    if upload is not False:  # else the paths are those of the server
        cure = f"{CURE} With --no-upload they are taken for the server's."
        require_paths(spec, job, text_alone=not is_here(client.server), cure=cure)


def _sent(spec: JobSpec, client: Client, upload: bool | None) -> JobSpec:
    from steep.cli.service.sending import is_here, with_uploads

    wanted = not is_here(client.server) if upload is None else upload
    return with_uploads(spec, client) if wanted else spec
