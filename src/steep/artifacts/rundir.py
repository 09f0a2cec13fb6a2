"""The run directory: where everything of a run lies, and who may write there.

RUN/
  job.yaml               the resolved job spec
  reports.jsonl          what the worker said, in order
  lock                   held by the process that works here
  stages/<stage>.json    a stage's completion: fingerprint of its inputs, and its outputs
  dataset/               token datasets, see corpus/prepare.py
  base/                  assess: scores of the base, replay sampled from it; the base itself if from scratch
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

from steep.artifacts.files import write_atomic
from steep.spec.errors import InvalidInput, RunBusy
from steep.spec.job import JobSpec
from steep.spec.load import load_spec
from steep.spec.results import Results
from steep.spec.stages import Stage


class RunDirectory:
    """Paths and records of one run. Cheap to make; touches the disk only when asked to."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).resolve()

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    job_file = property(lambda self: self.path / "job.yaml")
    reports_file = property(lambda self: self.path / "reports.jsonl")
    dataset = property(lambda self: self.path / "dataset")
    base = property(lambda self: self.path / "base")
    checkpoints = property(lambda self: self.path / "checkpoints")
    evaluation = property(lambda self: self.path / "evaluation")
    results_file = property(lambda self: self.path / "results.json")
    charts = property(lambda self: self.path / "charts")
    export = property(lambda self: self.path / "export")

    @classmethod
    def existing(cls, path: Path | str) -> RunDirectory:
        """The run at `path`, which must be one."""
        run = cls(path)
        if not run.job_file.exists():
            raise InvalidInput(
                "is not a run directory", where=str(run.path), cure="`steep run JOB.yaml --dir RUN` makes one."
            )
        return run

    def spec(self) -> JobSpec:
        """The job spec of this run."""
        return load_spec(self.job_file)

    def write_spec(self, spec: JobSpec) -> None:
        """Record the spec; every path in it is absolute already."""
        write_atomic(
            self.job_file, yaml.safe_dump(spec.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
        )

    def completion(self, stage: Stage) -> dict[str, Any] | None:
        """What a stage recorded when it completed, or nothing."""
        path = self.path / "stages" / f"{stage}.json"
        return json.loads(path.read_bytes()) if path.exists() else None

    def complete(self, stage: Stage, fingerprint: str, outputs: dict[str, Any]) -> None:
        """Record that a stage is complete for these inputs."""
        record = {"stage": str(stage), "fingerprint": fingerprint, "outputs": outputs}
        write_atomic(self.path / "stages" / f"{stage}.json", json.dumps(record, indent=1))

    def results(self) -> Results | None:
        """The measured results so far."""
        return Results.model_validate_json(self.results_file.read_bytes()) if self.results_file.exists() else None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run directory; a second process is refused. The system frees it when the process ends, however.

        Raises:
            RunBusy: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                raise RunBusy(
                    f"process {stream.read().strip() or 'unknown'} is working here",
                    where=str(self.path),
                    cure="Wait for it, stop it (SIGTERM saves a checkpoint), or use another --dir.",
                ) from None
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
            yield
