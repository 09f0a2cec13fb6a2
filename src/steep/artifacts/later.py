"""A run that measures one checkpoint of another run, and does nothing else.

    RUN/later.json     which step; its presence makes the worker measure instead of train
    RUN/scores.json    what was measured, written last

Tasks and texts to measure on stand in `RUN/job.yaml`, under `evaluation`. The checkpoint and what it needs beside it are shared
with the run that it comes from, by hard links where the disk is the same one: that run may go on, or delete it, meanwhile.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from steep.artifacts.files import full_disk_stops, make_directory, sync_directory, write_atomic
from steep.artifacts.lineage import share
from steep.artifacts.rundir import RunDirectory
from steep.spec.errors import DamagedArtifact, InvalidInput
from steep.spec.job import JobSpec

ORDER = "later.json"
SCORES = "scores.json"

_NEEDED = ("dataset", "base", "recipe.json", "guard.json")

Scores = dict[str, dict[str, float]]
"""By task, or by `text:` and the name of a text: numbers by metric."""


class LaterEvaluation(BaseModel):
    """Measure the checkpoint of this step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int

    @classmethod
    def read(cls, run: Path) -> Self | None:
        """What a run directory is for, if it is for this.

        Raises:
            DamagedArtifact: the file is none.
        """
        path = run / ORDER
        try:
            return cls.model_validate_json(path.read_bytes()) if path.exists() else None
        except ValidationError as error:
            raise DamagedArtifact(
                "does not say what to measure", where=str(path), cure="Ask for the evaluation again."
            ) from error


class _Measured(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    scores: Scores = Field(default_factory=dict)


def prepare_evaluation(run: RunDirectory, step: int, new_run: Path, spec: JobSpec) -> RunDirectory:
    """Make a run that measures a checkpoint. It appears whole or not at all.

    Args:
        run: the checkpoint's.
        step: of the checkpoint.
        new_run: where to make the run; nothing may be there.
        spec: of the new run: the old one's, with other tasks and texts under `evaluation`.

    Its bytes are not read here: whoever loads them compares them with the manifest.

    Raises:
        InvalidInput: there is no such checkpoint, or it was deleted meanwhile.
        DamagedArtifact: its manifest is damaged.
    """
    run.catalog().get(step)
    staging = new_run.with_name(f".{new_run.name}.measuring")
    with full_disk_stops(staging):
        shutil.rmtree(staging, ignore_errors=True)
        make_directory(staging)
        target = RunDirectory(staging)
        try:
            share(run.catalog().path(step), target.catalog().path(step))
        except FileNotFoundError as error:
            shutil.rmtree(staging)
            raise InvalidInput(
                f"checkpoint {step} has just been deleted", where=str(run.checkpoints), cure="Choose another one."
            ) from error
        for name in _NEEDED:
            if (run.path / name).exists():
                share(run.path / name, staging / name)
        target.write_spec(spec)
        write_atomic(staging / ORDER, LaterEvaluation(step=step).model_dump_json())
        staging.rename(new_run)
        sync_directory(new_run.parent)
    return RunDirectory(new_run)


def write_scores(run: RunDirectory, scores: Scores) -> None:
    """Record what was measured.

    Raises:
        Fenced: a later attempt works on the run.
    """
    run.fence.check()
    write_atomic(run.path / SCORES, _Measured(scores=scores).model_dump_json(indent=1))


def read_scores(run: RunDirectory) -> Scores | None:
    """What was measured, once it all was.

    Raises:
        DamagedArtifact: the file is none.
    """
    path = run.path / SCORES
    try:
        return _Measured.model_validate_json(path.read_bytes()).scores if path.exists() else None
    except ValidationError as error:
        raise DamagedArtifact("the record is damaged", where=str(path), cure="Ask for the evaluation again.") from error


def let_go(run: RunDirectory) -> None:
    """Remove what was shared, once it was measured: what the other run deletes shall give its bytes back."""
    for name in ("checkpoints", *_NEEDED):
        path = run.path / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
