"""Files of checkpoints and exports that may be downloaded: those on the list, and nothing else, whatever a path says."""

from __future__ import annotations

from pathlib import Path

from steep.artifacts.manifest import MANIFEST
from steep.artifacts.rundir import RunDirectory
from steep.spec.api.files import StoredFile
from steep.spec.errors import InvalidInput, NotFound


def checkpoint_files(run: RunDirectory, step: int) -> list[StoredFile]:
    """The files of a checkpoint, as its manifest has them, and the manifest.

    Raises:
        NotFound: there is no such checkpoint on disk.
        DamagedArtifact: its manifest is damaged.
    """
    from steep.artifacts.files import hash_file

    catalog = run.catalog()
    try:
        manifest = catalog.get(step)
    except InvalidInput as error:
        raise NotFound(f"there is no checkpoint of step {step}", where=run.path.name) from error
    files = [
        StoredFile(path=name, size_bytes=record.size_bytes, blake3=record.blake3)
        for name, record in sorted(manifest.files.items())
    ]
    own = catalog.path(step) / MANIFEST
    return [*files, StoredFile(path=MANIFEST, size_bytes=own.stat().st_size, blake3=hash_file(own))]


def checkpoint_file(run: RunDirectory, step: int, name: str) -> Path:
    """Where a file of a checkpoint lies.

    Raises:
        NotFound: there is none of that name.
    """
    if name not in {file.path for file in checkpoint_files(run, step)}:
        raise NotFound(f"the checkpoint of step {step} has no file {name}", where=run.path.name)
    return run.catalog().path(step) / name


def export_files(run: RunDirectory) -> list[StoredFile]:
    """The files of a run's export.

    Raises:
        NotFound: it has none yet.
    """
    files = sorted(path for path in run.export.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        raise NotFound("the job has no export yet", where=run.path.name, cure="It comes with the job's last stage.")
    return [StoredFile(path=path.relative_to(run.export).as_posix(), size_bytes=path.stat().st_size) for path in files]


def export_file(run: RunDirectory, name: str) -> Path:
    """Where a file of a run's export lies.

    Raises:
        NotFound: there is none of that name.
    """
    if name not in {file.path for file in export_files(run)}:
        raise NotFound(f"the export has no file {name}", where=run.path.name)
    return run.export / name
