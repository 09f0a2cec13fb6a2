"""Files of checkpoints and exports that may be downloaded: those on the list, and nothing else, whatever a path says."""

from __future__ import annotations

from pathlib import Path

from steep.artifacts.hashes import Hashes, files_in, hash_known
from steep.artifacts.manifest import MANIFEST
from steep.artifacts.rundir import RunDirectory
from steep.spec.api.files import StoredFile
from steep.spec.errors import DamagedArtifact, InvalidInput, NotFound
from steep.spec.stages import Stage


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
    """The files of a run's export, with their hashes: two exports of one base have files of the same names and sizes.

    Raises:
        NotFound: it has none yet.
    """
    known = _hashes(run)
    return [
        StoredFile(path=name, size_bytes=path.stat().st_size, blake3=hash_known(path, name, known))
        for name, path in _exported(run).items()
    ]


def export_file(run: RunDirectory, name: str) -> Path:
    """Where a file of a run's export lies.

    Raises:
        NotFound: there is none of that name.
    """
    path = _exported(run).get(name)
    if path is None:
        raise NotFound(f"the export has no file {name}", where=run.path.name)
    return path


def _exported(run: RunDirectory) -> dict[str, Path]:
    found = files_in(run.export)
    if not found:
        raise NotFound("the job has no export yet", where=run.path.name, cure="It comes with the job's last stage.")
    return found


def _hashes(run: RunDirectory) -> Hashes:
    """What the worker wrote down when it had read the export back."""
    try:
        done = run.completion(Stage.EXPORT)
    except DamagedArtifact:
        return {}
    known: Hashes = {} if done is None else done["outputs"].get("files", {})
    return known
