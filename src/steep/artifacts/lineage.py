"""Where a run came from, what was set aside in it, and what descends from it.

    RUN/lineage.json
      origin      the checkpoint of another run that this one was branched from, or null
      abandoned   lines that were rolled back; each lies in RUN/checkpoints/<name>/, itself a catalog of checkpoints
    RUN/trunk.json
      of a branch: the recipe of the run that it left, whatever recipe.json says later

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
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from steep.artifacts.abandoned import ABANDONED
from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.files import full_disk_stops, make_directory, sync_directory, write_atomic
from steep.artifacts.guard import GuardRecord
from steep.artifacts.manifest import CheckpointManifest, step_name
from steep.artifacts.rundir import RunDirectory
from steep.spec.errors import DamagedArtifact, InvalidInput
from steep.spec.job import JobSpec
from steep.spec.stages import ORDER, Stage

TRUNK = "trunk.json"
_SHARED = ("dataset", "base", "recipe.json", "stages/prepare.json", "stages/assess.json", "evaluation/base.json")
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

    `steps` and `identities` are theirs (those that could be read); the line left its own line at `from_step`. Lines that had left
    it went along, into its directory.
    """

    name: str
    from_step: int
    steps: tuple[int, ...]
    abandoned_at: float
    identities: tuple[str, ...] = ()
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

    def set_aside_at(self) -> dict[int, float]:
        """Steps of checkpoints that were set aside, whether they are still there or not, and when that was; the run's own
        line may have reached them again since."""
        return _set_aside_at(self.abandoned)

    def sets_aside(self, manifest: CheckpointManifest) -> bool:
        """Whether a checkpoint, or the one that this is a copy of, was set aside. Of lines without identities time decides."""
        return any(
            manifest.identity in line.identities
            if line.identities
            else manifest.step in line.steps and manifest.created_at <= line.abandoned_at
            for line in _all_lines(self.abandoned)
        )

    def adopts(self, manifest: CheckpointManifest) -> bool:
        """Whether a checkpoint is the one this run was branched from, and so its own whatever the spec says."""
        return self.origin is not None and self.origin.identity == manifest.identity


def _set_aside_at(lines: Sequence[AbandonedLine]) -> dict[int, float]:
    found: dict[int, float] = {}
    for line in _all_lines(lines):
        for step in line.steps:
            found[step] = max(line.abandoned_at, found.get(step, 0.0))
    return found


def _all_lines(lines: Sequence[AbandonedLine]) -> Iterator[AbandonedLine]:
    for line in lines:
        yield line
        yield from _all_lines(line.abandoned)


# -------------------------------------------------------------------------------------------------------------- branch


def branch(run: RunDirectory, step: int, new_run: Path, spec: JobSpec) -> RunDirectory:
    """Make a new run that goes on from a checkpoint with its full state, under another spec.

    The new run is complete in itself: files that do not change are shared by hard links, or copied to another disk.
    It appears whole or not at all. The run may be worked on meanwhile; the checkpoint is protected from the beginning.

    Raises:
        InvalidInput: `new_run` exists, the step does not or was deleted meanwhile, or the spec changes the base or the method.
        DamagedArtifact: the checkpoint's bytes are wrong.
    """
    _refuse_other_weights(run.spec(), spec)
    new_run = new_run.resolve()
    if new_run.exists() and (not new_run.is_dir() or any(new_run.iterdir())):
        raise InvalidInput("exists already", where=str(new_run), cure="Give the branch another --name or --dir.")
    catalog = CheckpointCatalog(run.checkpoints)
    catalog.get(step)
    staging = new_run.with_name(f".{new_run.name}.branching")
    with full_disk_stops(staging):
        shutil.rmtree(staging, ignore_errors=True)
        try:
            make_directory(staging)
            catalog.record_branch(step, staging)  # before it is read: a worker may be deleting what nobody needs
            _fill(RunDirectory(staging), run, step, spec)
            catalog.record_branch(step, new_run)
            if new_run.exists():
                new_run.rmdir()
            staging.rename(new_run)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)  # else it would protect the checkpoint for ever
            raise
        sync_directory(new_run.parent)
    return RunDirectory(new_run)


def _fill(target: RunDirectory, run: RunDirectory, step: int, spec: JobSpec) -> None:
    """All that a branch begins with."""
    catalog = CheckpointCatalog(run.checkpoints)
    try:
        manifest = catalog.verify(step)
        share(catalog.path(step), target.checkpoints / catalog.path(step).name)
    except (DamagedArtifact, FileNotFoundError) as error:
        if catalog.path(step).is_dir():
            raise
        raise InvalidInput(
            f"checkpoint {step} has just been deleted", where=str(run.checkpoints), cure="Choose another one."
        ) from error
    for name in _SHARED:
        if (run.path / name).exists():
            share(run.path / name, target.path / name)
    if (run.path / "recipe.json").exists():
        share(run.path / "recipe.json", target.path / TRUNK)
    target.write_spec(spec)
    origin = Origin(run=str(run.path), step=step, tokens_seen=manifest.tokens_seen, identity=manifest.identity)
    Lineage(origin=origin).write(target.path)
    GuardRecord.read(run.path).until(step).write(target.path)


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

    Whenever it is interrupted, the same call completes it. Returns the abandoned line, or nothing when there were no
    later checkpoints and no later measurements.

    Raises:
        InvalidInput: there is no such checkpoint.
        DamagedArtifact: that checkpoint is not valid; nothing was moved.
        RunBusy: a process works on the run.
    """
    with run.lock():
        CheckpointCatalog(run.checkpoints).verify(step)
        GuardRecord.read(run.path).until(step).write(run.path)
        return go_back(run, step)


def go_back(run: RunDirectory, step: int) -> AbandonedLine | None:
    """Set all after `step` aside, which is 0 for the base; `rollback` without its checks. Call it with the lock held."""
    run.fence.check()
    catalog = CheckpointCatalog(run.checkpoints)
    with full_disk_stops(run.checkpoints):
        later = [one for one in catalog.steps() if one > step]
        measured = _measurements_after(run.evaluation, step)
        lineage = Lineage.read(run)
        _settle(run.checkpoints, lineage.abandoned)
        for stage in _AFTER_TRAINING:
            (run.path / "stages" / f"{stage}.json").unlink(missing_ok=True)
        if not later and not measured:
            return None
        line = AbandonedLine(
            name=_free_name(run.checkpoints, lineage),
            from_step=step,
            steps=tuple(later),
            abandoned_at=time.time(),
            identities=_identities(catalog, later),
            abandoned=tuple(one for one in lineage.abandoned if one.from_step > step),
        )
        place = run.checkpoints / line.name
        make_directory(place)
        stays = tuple(one for one in lineage.abandoned if one.from_step <= step)
        lineage.model_copy(update={"abandoned": (*stays, line)}).write(run.path)
        if step in catalog.steps():
            catalog.record_branch(step, Path(line.name))
        _settle(run.checkpoints, (line,))
        # before the checkpoints: numbers of a line that is gone must not stand beside the new line's checkpoints
        _move(measured, place / "evaluation")
        _move(_entries(catalog, later), place)
        return line


def set_aside(run: RunDirectory, steps: Sequence[int]) -> AbandonedLine:
    """Move checkpoints that are no part of the run's line, as those of an earlier spec, out of its way; none is deleted.

    Lines that had left theirs stay where they are. Call it with the run's lock held.
    """
    run.fence.check()
    catalog, lineage = CheckpointCatalog(run.checkpoints), Lineage.read(run)
    name = _free_name(run.checkpoints, lineage)
    line = AbandonedLine(
        name=name,
        from_step=0,
        steps=tuple(steps),
        abandoned_at=time.time(),
        identities=_identities(catalog, steps),
    )
    with full_disk_stops(run.checkpoints):
        make_directory(run.checkpoints / name)
        lineage.model_copy(update={"abandoned": (*lineage.abandoned, line)}).write(run.path)
        _move(_entries(catalog, steps), run.checkpoints / name)
    return line


def _identities(catalog: CheckpointCatalog, steps: Collection[int]) -> tuple[str, ...]:
    return tuple(manifest.identity for manifest in catalog.list() if manifest.step in steps)


def _entries(catalog: CheckpointCatalog, steps: Sequence[int]) -> list[Path]:
    """All that belongs to these checkpoints, newest first: wherever its moving ends, the line's beginning is whole."""
    return [
        entry
        for step in sorted(steps, reverse=True)
        for entry in (*catalog.directory.glob(f"{step_name(step)}.*"), catalog.path(step))
    ]


def _measurements_after(evaluation: Path, step: int) -> list[Path]:
    """Records of models after a step: other training will reach the same steps."""
    numbers = {record: re.search(r"-(\d{8,})(?!\d)", record.stem) for record in sorted(evaluation.glob("*.json"))}
    return [record for record, found in numbers.items() if found and int(found[1]) > step]


def _settle(checkpoints: Path, lines: Sequence[AbandonedLine]) -> None:
    """Bring lines that left an abandoned line to where it lies; an earlier rollback may have ended before it did."""
    for line in lines:
        _move(
            [place for inner in line.abandoned if (place := checkpoints / inner.name).exists()], checkpoints / line.name
        )


def _move(entries: Sequence[Path], place: Path) -> None:
    if not entries:
        return
    make_directory(place)
    for entry in entries:
        entry.rename(place / entry.name)
    for directory in {place, *(entry.parent for entry in entries)}:
        sync_directory(directory)


def _free_name(checkpoints: Path, lineage: Lineage) -> str:
    """A name that no line of this run ever had, not even one whose directory was deleted."""
    names = {place.name for place in checkpoints.rglob(f"{ABANDONED}*")} | _names(lineage.abandoned)
    numbers = [int(digits) for name in names if (digits := name.removeprefix(ABANDONED)).isdecimal()]
    return f"{ABANDONED}{max(numbers, default=0) + 1}"


def _names(lines: Sequence[AbandonedLine]) -> set[str]:
    return {line.name for line in lines} | {name for line in lines for name in _names(line.abandoned)}


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
