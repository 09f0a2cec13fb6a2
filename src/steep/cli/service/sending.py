"""Sources that lie here and not where the server is: they are uploaded, and the spec names the uploads.

A directory or a pattern becomes one packed file, the same bytes each time, so that what was uploaded before is not sent again.
"""

from __future__ import annotations

import gzip
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from steep.spec.errors import InvalidInput
from steep.spec.job import JobSpec, Source
from steep.spec.load import is_remote

if TYPE_CHECKING:
    from steep.client.client import Client
    from steep.corpus.sources import SourceFile
    from steep.spec.api.files import FileView

UPLOADED = "steep://files/"
"""How a job names an uploaded file: this and its id."""

DEFAULT = "default"
"""The project of a job that names none, where the key opens all of them."""


def is_here(server: str) -> bool:
    """Whether a server is on this machine, and reads the same files."""
    return urlsplit(server).hostname in ("localhost", "127.0.0.1", "::1")


def with_uploads(spec: JobSpec, client: Client) -> JobSpec:
    """Upload the local sources of a job, and return the job with the uploads in their place.

    Raises:
        InvalidInput: the base or a task lies here, and no upload can stand for it.
        InvalidCorpus: a source is not there.
    """
    if not is_here(client.server):
        _refuse_what_cannot_be_sent(spec)

    project = spec.service.project if "project" in spec.service.model_fields_set else None

    def send(sources: Sequence[Source]) -> tuple[Source, ...]:
        return upload_sources(sources, client, project)

    replay = spec.replay.source
    changed: dict[str, Any] = {
        "corpus": spec.corpus.model_copy(update={"sources": send(spec.corpus.sources)}),
        "evaluation": spec.evaluation.model_copy(update={"general": send(spec.evaluation.general)}),
    }
    if isinstance(replay, Source):
        changed["replay"] = spec.replay.model_copy(update={"source": send([replay])[0]})
    return spec.model_copy(update=changed)


def upload_sources(sources: Sequence[Source], client: Client, project: str | None) -> tuple[Source, ...]:
    """Upload those of some sources that lie here, and return all with the uploads in their place.

    Args:
        sources: of a job.
        client: speaks to the server.
        project: of the job; None where it names none, so that the server takes the key's own.

    Raises:
        InvalidCorpus: a source is not there.
    """
    from steep.corpus.sources import name_sources

    earlier = {(one.name, one.blake3): one for one in _earlier(client, project)}
    return tuple(_sent(name, source, client, project, earlier) for name, source in name_sources(sources).items())


def _earlier(client: Client, project: str | None) -> Iterator[FileView]:
    """What was uploaded before for the project of the job, which reads no other's files."""
    if project is None:  # a key of all projects sees the files of all
        opened = [one.name for one in client.projects.list()]
        project = DEFAULT if DEFAULT in opened else next(iter(opened), DEFAULT)
    return client.files.list(project=project)


def _refuse_what_cannot_be_sent(spec: JobSpec) -> None:
    here = {
        "base": spec.base.model,
        "base.from_scratch.tokenizer": spec.base.from_scratch.tokenizer if spec.base.from_scratch else None,
        **{f"evaluation.tasks.{i}": task for i, task in enumerate(spec.evaluation.tasks)},
    }
    for field, path in here.items():
        if path is not None and Path(path).is_absolute() and Path(path).exists():  # else it is the server's
            raise InvalidInput(
                f"{path} lies on this machine and the server is on another",
                where=field,
                cure="Give a hub id, or a path that the server's operator has allowed, with --no-upload.",
            )


def _sent(
    name: str, source: Source, client: Client, project: str | None, earlier: dict[tuple[str, str], FileView]
) -> Source:
    """The source as an upload; one that is remote stays as it is."""
    if is_remote(source.path) and not source.path.startswith("file://"):
        return source
    from steep.artifacts.files import full_disk_stops
    from steep.corpus.sources import list_files, local_path, root_of

    path = Path(local_path(source))
    if path.is_file():
        view = _upload(path, path.name, client, project, earlier)
        return source.model_copy(update={"path": UPLOADED + view.id, "name": name})
    with tempfile.TemporaryDirectory(prefix="steep-upload-") as directory:
        packed = Path(directory) / f"{name}.tar.gz"
        with full_disk_stops(packed):
            _pack(list_files(name, source), root_of(source), packed)
        view = _upload(packed, packed.name, client, project, earlier)
    chosen = ("**/*",) if source.include or not path.is_dir() else ()  # they were chosen here, whatever their kind
    return source.model_copy(update={"path": UPLOADED + view.id, "name": name, "include": chosen, "exclude": ()})


def _upload(
    path: Path, name: str, client: Client, project: str | None, earlier: dict[tuple[str, str], FileView]
) -> FileView:
    from steep.artifacts.files import hash_file
    from steep.cli.output import say
    from steep.cli.service.transfer import shown_transfer
    from steep.spec.units import format_bytes

    size_bytes = path.stat().st_size
    known = earlier.get((name, hash_file(path)))
    if known is not None:
        say(f"{name} was uploaded before, as {known.id}.")
        return known
    with shown_transfer(f"Uploading {name}", size_bytes) as count:
        view = client.files.upload(path, name=name, project=project, count=count)
    say(f"Uploaded {name} ({format_bytes(size_bytes)}) as {view.id}.")
    return view


def _pack(files: Sequence[SourceFile], root: str, target: Path) -> None:
    """One archive of these files. Nothing but their names and bytes goes into it, so the same files make the same archive."""
    with (
        open(target, "wb") as stream,
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=stream, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file in files:
            member = tarfile.TarInfo(file.path.removeprefix(root))
            with open(file.path, "rb") as content:
                member.size = Path(file.path).stat().st_size
                archive.addfile(member, content)
