"""The run directory: where everything of a run lies, and who may write there.

RUN/
  job.yaml               the resolved job spec
  reports.jsonl          what the worker said, in order
  lock                   held by the process that works here
  attempts/<number>/     in a service: what was asked for, the processes, how it ended, see compute/local/records.py
  fence                  which attempts of a service may write here, see artifacts/fence.py
  stages/<stage>.json    a stage's completion: fingerprint of its inputs, and its outputs
  dataset/               token datasets, see corpus/prepare.py
  base/                  assess: scores of the base, replay sampled from it; the base itself if from scratch;
                         the commits that names of the hub mean here, see artifacts/commits.py
  guard.json             what the guard against forgetting did, see artifacts/guard.py
  checkpoints/           step-00000100/ ... , committed by manifest
  evaluation/            scores of each checkpoint
  results.json           see spec/results.py
  charts/                png and svg
  export/                the selected model, Hugging Face layout
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.fence import Fence
from steep.artifacts.files import full_disk_stops, make_directory, write_atomic
from steep.spec.errors import DamagedArtifact, InvalidInput, RunBusy
from steep.spec.job import JobSpec
from steep.spec.load import load_spec
from steep.spec.results import Results
from steep.spec.stages import Stage


class RunDirectory:
    """Paths and records of one run. Cheap to make; touches the disk only when asked to.

    Args:
        path: of the directory.
        attempt: the number of the attempt of a service that works on it; what it writes passes the run's fence.
    """

    def __init__(self, path: Path | str, *, attempt: int | None = None) -> None:
        self.path = Path(path).resolve()
        self.fence = Fence(self.path / "fence", attempt)
        self.job_file = self.path / "job.yaml"
        self.reports_file = self.path / "reports.jsonl"
        self.dataset = self.path / "dataset"
        self.base = self.path / "base"
        self.checkpoints = self.path / "checkpoints"
        self.evaluation = self.path / "evaluation"
        self.results_file = self.path / "results.json"
        self.charts = self.path / "charts"
        self.export = self.path / "export"

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @classmethod
    def existing(cls, path: Path | str) -> RunDirectory:
        """The run at `path`, which must be one."""
        run = cls(path)
        if not run.job_file.exists():
            raise InvalidInput(
                "is not a run directory", where=str(run.path), cure="`steep run JOB.yaml --dir RUN` makes one."
            )
        return run

    def catalog(self) -> CheckpointCatalog:
        """The checkpoints of this run; what is done to them passes the run's fence."""
        return CheckpointCatalog(self.checkpoints, self.fence.check)

    def spec(self) -> JobSpec:
        """The job spec of this run."""
        return load_spec(self.job_file)

    def write_spec(self, spec: JobSpec) -> None:
        """Record the spec; every path in it is absolute already."""
        write_atomic(
            self.job_file, yaml.safe_dump(spec.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
        )

    def completion(self, stage: Stage) -> dict[str, Any] | None:
        """What a stage recorded when it completed, or nothing.

        Raises:
            DamagedArtifact: the record cannot be read.
        """
        path = self.path / "stages" / f"{stage}.json"
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_bytes())
            return {key: record[key] for key in ("stage", "fingerprint", "outputs")}
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(path, f"Delete this file; the stage {stage} runs again.") from error

    def complete(self, stage: Stage, fingerprint: str, outputs: dict[str, Any]) -> None:
        """Record that a stage is complete for these inputs.

        Raises:
            Fenced: a later attempt works on the run.
        """
        self.fence.check()
        record = {"stage": str(stage), "fingerprint": fingerprint, "outputs": outputs}
        write_atomic(self.path / "stages" / f"{stage}.json", json.dumps(record, indent=1))

    def results(self) -> Results | None:
        """The measured results so far.

        Raises:
            DamagedArtifact: the file cannot be read.
        """
        if not self.results_file.exists():
            return None
        try:
            return Results.model_validate_json(self.results_file.read_bytes())
        except ValidationError as error:
            raise _damaged(self.results_file, "Delete this file and run again; it is made anew.") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run directory; a second process is refused. The system frees it when the process ends, however.

        Raises:
            RunBusy: another process holds it.
            InvalidInput: no directory can be made there, or nothing may be written in it.
            OutOfSpace: the disk is full.
        """
        try:
            with full_disk_stops(self.path):
                make_directory(self.path)
                stream = open(self.path / "lock", "a+b", buffering=0)  # noqa: SIM115 - closed below
        except OSError as error:
            raise InvalidInput(
                f"cannot be used as a run directory ({error.strerror})",
                where=str(self.path),
                cure="Choose another --dir, or mend the rights there.",
            ) from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                raise RunBusy(
                    f"process {stream.read().decode() or 'unknown'} is working here",
                    where=str(self.path),
                    cure="Wait for it, stop it (SIGTERM saves a checkpoint), or use another --dir.",
                ) from None
            with full_disk_stops(self.path):
                stream.truncate(0)
                stream.write(str(os.getpid()).encode())
            yield


def _damaged(path: Path, cure: str) -> DamagedArtifact:
    return DamagedArtifact("the record is damaged", where=str(path), cure=cure)
