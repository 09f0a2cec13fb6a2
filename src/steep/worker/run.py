"""Work on a run directory: hold it, listen for signals, report, and go through the stages."""

from __future__ import annotations

from contextlib import closing

from steep.artifacts.rundir import RunDirectory
from steep.artifacts.store import open_store
from steep.spec.job import JobSpec
from steep.spec.stages import Stage
from steep.worker.context import Context
from steep.worker.observers.build import observers_for
from steep.worker.pipeline import run_job
from steep.worker.reports import RunReports
from steep.worker.stop import StopRequest


def work_on(run: RunDirectory, *, until: Stage | None = None) -> None:
    """Take the run directory and work until the job is complete, or until `until` is.

    Raises:
        RunBusy: another process works here.
        Stopped: asked to stop by a signal or the deadline; resumable.
        SteepError: see `spec/errors.py`.
    """
    from steep.train.observer import Several

    RunDirectory.existing(run.path)
    with run.lock():
        spec = run.spec()
        (run.path / "error.json").unlink(missing_ok=True)
        stop = StopRequest(spec.deadline)
        stop.listen()
        _check_store(spec)
        with closing(RunReports(run.reports_file)) as reports:
            observer = Several((reports, *observers_for(run, spec)))
            run_job(Context(run=run, spec=spec, observer=observer, should_stop=stop), until=until)


def _check_store(spec: JobSpec) -> None:
    """A store that is none is said before anything is done, not when training begins."""
    if spec.checkpoints.store is not None:
        open_store(spec.checkpoints.store)
