"""Reports into the run directory: `reports.jsonl`, one JSON object a line, numbered and timed.

The run directory comes first: whatever watches a run (console, charts, the service) reads this file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from steep.artifacts.files import full_disk_stops
from steep.spec.reports import (
    CheckpointReport,
    EvaluationReport,
    NoticeReport,
    ProgressReport,
    Report,
    StageReport,
    StepReport,
)

PROGRESS_INTERVAL_SECONDS = 0.25


class RunReports:
    """An observer that appends every report to `reports.jsonl`.

    Args:
        path: of that file.
        may_write: asked before each report; raises Fenced when a later attempt works on the run.
    """

    def __init__(self, path: Path, may_write: Callable[[], None] = lambda: None) -> None:
        self._may_write = may_write
        path.parent.mkdir(parents=True, exist_ok=True)
        self._mend_torn_tail(path)
        self._sequence = _count_lines(path)
        self._stream = open(path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the run
        self._path = path
        self._last_progress: dict[str, float] = {}

    def stage(self, report: StageReport) -> None:
        """A stage began, ended or was skipped."""
        self._append(report)

    def progress(self, report: ProgressReport) -> None:
        """Part of a stage's work is done; at most a few of these a second are written."""
        last = self._last_progress.get(report.what)
        finished = report.total is not None and report.done >= report.total
        if last is not None and not finished and time.monotonic() - last < PROGRESS_INTERVAL_SECONDS:
            return
        self._last_progress[report.what] = time.monotonic()
        self._append(report)

    def step(self, report: StepReport) -> None:
        """One optimizer step."""
        self._append(report)

    def evaluation(self, report: EvaluationReport) -> None:
        """Hold-outs were scored."""
        self._append(report)

    def checkpoint(self, report: CheckpointReport) -> None:
        """Something happened to a checkpoint."""
        self._append(report)

    def notice(self, report: NoticeReport) -> None:
        """A sentence for people."""
        self._append(report)

    def close(self) -> None:
        """No more will be written."""
        self._stream.close()

    def _append(self, report: Report) -> None:
        self._may_write()
        numbered = report.model_copy(update={"time": time.time(), "sequence": self._sequence})
        line = numbered.model_dump_json(exclude_none=True).encode() + b"\n"
        whole = self._stream.seek(0, os.SEEK_END)
        with full_disk_stops(self._path):
            try:
                while line:
                    line = line[self._stream.write(line) :]
            except OSError:
                self._stream.truncate(whole)  # half a line would swallow the next report
                raise
        self._sequence += 1  # not before: a number that was left out would be waited for for ever

    @staticmethod
    def _mend_torn_tail(path: Path) -> None:
        """A killed writer can leave half a line; it must not swallow the next report."""
        if not path.exists() or path.stat().st_size == 0:
            return
        with open(path, "rb+") as stream:
            stream.seek(-1, 2)
            if stream.read(1) == b"\n":
                return
            content = path.read_bytes()
            stream.truncate(content.rfind(b"\n") + 1)


def _count_lines(path: Path) -> int:
    if not path.exists():
        return 0
    with open(path, "rb") as stream:
        return sum(1 for _ in stream)
