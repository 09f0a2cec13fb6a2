"""Where a run came from, what was set aside in it, and what descends from it.

    RUN/lineage.json
      origin      the checkpoint of another run that this one was branched from, or null
      abandoned   lines that were rolled back; each lies in RUN/checkpoints/<name>/, itself a catalog of checkpoints

Within a line, each manifest names its parent. A worker that resumes must look at two things: the checkpoint with the
origin's identity is its own, though its fingerprints are those of the trunk's spec (`Lineage.adopts`); and the run's
first new step is the origin's step plus one, so a WSD schedule decays from there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from steep.artifacts.checkpoints import CheckpointCatalog, CheckpointManifest
from steep.artifacts.files import full_disk_stops, sync_directory, write_atomic
from steep.artifacts.rundir import RunDirectory
from steep.spec.errors import DamagedArtifact, InvalidInput
from steep.spec.job import JobSpec
from steep.spec.stages import ORDER, Stage

_SHARED = ("dataset", "base", "stages/prepare.json", "stages/assess.json", "evaluation/base.json")
_AFTER_TRAINING = ORDER[ORDER.index(Stage.TRAIN) :]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Origin(_Frozen):
    """The checkpoint a run was branched from."""

    run: str
    step: int
    tokens_seen: int
    identity: str


class AbandonedLine(_Frozen):
    """Checkpoints that were set aside by a rollback.

    `steps` are theirs; the line left its own line at `from_step`. Lines that had left it went along, into its directory.
    """

    name: str
    from_step: int
    steps: tuple[int, ...]
    abandoned_at: float
    abandoned: tuple[AbandonedLine, ...] = ()


class Lineage(_Frozen):
    """The ancestry of a run."""

    origin: Origin | None = None
    abandoned: tuple[AbandonedLine, ...] = ()

    @classmethod
    def read(cls, run: RunDirectory) -> Lineage:
        """The lineage of a run; of a run that was never branched or rolled back, the empty one.

        Raises:
            DamagedArtifact: the file is not one.
        """
        file = run.path / "lineage.json"
        try:
            return cls.model_validate_json(file.read_bytes()) if file.exists() else cls()
        except ValidationError as error:
            raise DamagedArtifact(
                "is not a lineage file", where=str(file), cure="Restore it from a copy of the run directory."
            ) from error

    def write(self, run: Path) -> None:
        """Record it in a run directory."""
        write_atomic(run / "lineage.json", json.dumps(self.model_dump(mode="json"), indent=1))

    def adopts(self, manifest: CheckpointManifest) -> bool:
        """Whether a checkpoint is the one this run was branched from, and so its own whatever the spec says."""
        return self.origin is not None and self.origin.identity == manifest.identity


# -------------------------------------------------------------------------------------------------------------- branch


def branch(run: RunDirectory, step: int, new_run: Path, spec: JobSpec) -> RunDirectory:
    """Make a new run that goes on from a checkpoint with its full state, under another spec.

    The new run is complete in itself: files that do not change are shared by hard links, or copied to another disk.
    It appears whole or not at all.

    Raises:
        InvalidInput: `new_run` exists, the step does not, or the spec changes the base or the method.
        DamagedArtifact: the checkpoint's bytes are wrong.
    """
    _refuse_other_weights(run.spec(), spec)
    new_run = new_run.resolve()
    if new_run.exists() and (not new_run.is_dir() or any(new_run.iterdir())):
        raise InvalidInput("exists already", where=str(new_run), cure="Give the branch another --name or --dir.")
    catalog = CheckpointCatalog(run.checkpoints)
    manifest = catalog.verify(step)
    staging = new_run.with_name(f".{new_run.name}.branching")
    with full_disk_stops(staging):
        shutil.rmtree(staging, ignore_errors=True)
        target = RunDirectory(staging)
        share(catalog.path(step), target.checkpoints / catalog.path(step).name)
        for name in _SHARED:
            if (run.path / name).exists():
                share(run.path / name, staging / name)
        target.write_spec(spec)
        origin = Origin(run=str(run.path), step=step, tokens_seen=manifest.tokens_seen, identity=manifest.identity)
        Lineage(origin=origin).write(staging)
        catalog.record_branch(step, new_run)
        if new_run.exists():
            new_run.rmdir()
        staging.rename(new_run)
        sync_directory(new_run.parent)
    return RunDirectory(new_run)


def share(source: Path, target: Path) -> None:
    """Make `target` hold what `source` holds: by hard links, or by copies where the disk is another one."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for entry in sorted(source.iterdir()):
            share(entry, target / entry.name)
        sync_directory(target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        with open(target, "rb") as stream:
            os.fsync(stream.fileno())


def _refuse_other_weights(old: JobSpec, new: JobSpec) -> None:
    changed = [
        name
        for name, before, after in (
            ("base", old.base, new.base),
            ("training.method", old.training.method, new.training.method),
        )
        if before != after
    ]
    if changed:
        raise InvalidInput(
            f"a branch goes on with the same weights, so it cannot change {' and '.join(changed)}",
            where="spec",
            cure="Export the checkpoint and start a new job with the export as its base.",
        )


# ------------------------------------------------------------------------------------------------------------ rollback


def rollback(run: RunDirectory, step: int) -> AbandonedLine | None:
    """Set the checkpoints after `step` aside, so that the same command resumes from it. Nothing is deleted.

    Returns the abandoned line, or nothing when there were no later checkpoints and no later measurements.

    Raises:
        InvalidInput: there is no such checkpoint.
        DamagedArtifact: that checkpoint is not valid; nothing was moved.
        RunBusy: a process works on the run.
    """
    with run.lock():
        catalog = CheckpointCatalog(run.checkpoints)
        catalog.verify(step)
        later = [one for one in catalog.steps() if one > step]
        lineage = Lineage.read(run)
        for stage in _AFTER_TRAINING:
            (run.path / "stages" / f"{stage}.json").unlink(missing_ok=True)
        if not later:
            return None
        line = AbandonedLine(
            name=_free_name(run.checkpoints),
            from_step=step,
            steps=tuple(later),
            abandoned_at=time.time(),
            abandoned=tuple(one for one in lineage.abandoned if one.from_step > step),
        )
        place = run.checkpoints / line.name
        place.mkdir()
        stays = tuple(one for one in lineage.abandoned if one.from_step <= step)
        lineage.model_copy(update={"abandoned": (*stays, line)}).write(run.path)
        catalog.record_branch(step, Path(line.name))
        for inner in line.abandoned:
            (run.checkpoints / inner.name).rename(place / inner.name)
        _move(catalog, later, place)
        _set_measurements_aside(run.evaluation, step, place / "evaluation")
        return line


def set_aside(run: RunDirectory, steps: Sequence[int]) -> AbandonedLine:
    """Move checkpoints that are no part of the run's line, as those of an earlier spec, out of its way; none is deleted.

    Lines that had left theirs stay where they are. Call it with the run's lock held.
    """
    catalog, lineage = CheckpointCatalog(run.checkpoints), Lineage.read(run)
    line = AbandonedLine(name=_free_name(run.checkpoints), from_step=0, steps=tuple(steps), abandoned_at=time.time())
    place = run.checkpoints / line.name
    place.mkdir()
    lineage.model_copy(update={"abandoned": (*lineage.abandoned, line)}).write(run.path)
    _move(catalog, steps, place)
    return line


def _move(catalog: CheckpointCatalog, steps: Sequence[int], place: Path) -> None:
    """Newest first: whenever this is interrupted, what remains is the beginning of the line."""
    for step in sorted(steps, reverse=True):
        for entry in (*catalog.directory.glob(f"{catalog.path(step).name}.*"), catalog.path(step)):
            entry.rename(place / entry.name)
    sync_directory(catalog.directory)


def _free_name(checkpoints: Path) -> str:
    numbers = [int(line.name.removeprefix("abandoned-")) for line in checkpoints.rglob("abandoned-*")]
    return f"abandoned-{max(numbers, default=0) + 1}"


def _set_measurements_aside(evaluation: Path, step: int, place: Path) -> None:
    """Records of models after `step` go with their line: the same steps will be reached by other training."""
    for record in sorted(evaluation.glob("*.json")):
        found = re.search(r"-(\d{8})(?!\d)", record.stem)
        if found and int(found[1]) > step:
            place.mkdir(exist_ok=True)
            record.rename(place / record.name)


# ---------------------------------------------------------------------------------------------------------------- tree


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One row of the tree of checkpoints, in the order to print it.

    Args:
        depth: 0 for the run's own line, one more for each line that leaves another.
        line: `main`, the name of an abandoned line, or the path of a branch.
        manifest: the checkpoint.
        pinned: whether it is pinned.
        is_origin: the checkpoint belongs to the trunk that this line was branched from.
    """

    depth: int
    line: str
    manifest: CheckpointManifest
    pinned: bool
    is_origin: bool = False


def tree(run: RunDirectory) -> list[TreeRow]:
    """All checkpoints of a run: each followed by the abandoned lines and the branches that leave the line at it."""
    return _rows(CheckpointCatalog(run.checkpoints), Lineage.read(run), "main", 0, frozenset({run.path}))


def _rows(catalog: CheckpointCatalog, lineage: Lineage, line: str, depth: int, seen: frozenset[Path]) -> list[TreeRow]:
    rows: list[TreeRow] = []
    manifests = catalog.list()
    for manifest in manifests:
        step = manifest.step
        rows.append(TreeRow(depth, line, manifest, catalog.pinned(step), lineage.adopts(manifest)))
        rows += _left(catalog, [one for one in lineage.abandoned if one.from_step == step], depth + 1, seen)
        for name in catalog.branches(step):
            path = Path(name)
            if path.is_absolute() and path not in seen:
                other = RunDirectory(path)
                below = _rows(CheckpointCatalog(other.checkpoints), Lineage.read(other), name, depth + 1, seen | {path})
                rows += [row for row in below if not (row.is_origin and row.depth == depth + 1)]
    there = {manifest.step for manifest in manifests}
    rows += _left(catalog, [one for one in lineage.abandoned if one.from_step not in there], depth + 1, seen)
    return rows


def _left(
    catalog: CheckpointCatalog, lines: Sequence[AbandonedLine], depth: int, seen: frozenset[Path]
) -> list[TreeRow]:
    """Rows of lines that were set aside."""
    rows = []
    for line in lines:
        inner = CheckpointCatalog(catalog.directory / line.name)
        rows += _rows(inner, Lineage(abandoned=line.abandoned), line.name, depth, seen)
    return rows
