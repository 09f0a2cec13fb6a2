"""Work on a run directory: hold it, listen for signals, report, and go through the stages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from steep.artifacts.later import LaterEvaluation
from steep.artifacts.rundir import RunDirectory
from steep.artifacts.store import open_store
from steep.spec.job import JobSpec
from steep.spec.stages import Stage
from steep.worker.context import Context
from steep.worker.later import evaluate_later
from steep.worker.observers.build import observers_for
from steep.worker.pipeline import run_job
from steep.worker.reports import RunReports
from steep.worker.stop import StopRequest


def work_on(run: RunDirectory, *, until: Stage | None = None, asked: Callable[[], str | None] = lambda: None) -> None:
    """Take the run directory and work until the job is complete, or until `until` is; or measure what is to be measured.

    Args:
        run: what to work on.
        until: the last stage; None is all of them.
        asked: says why a service wants the work to stop, or nothing.

    Raises:
        RunBusy: another process works here.
        Stopped: asked to stop by a signal, the deadline or the service; resumable.
        Fenced: a later attempt works on the run.
        SteepError: see `spec/errors.py`.
    """
    from steep.train.observer import Several

    RunDirectory.existing(run.path)
    with run.lock():
        run.fence.enter()
        spec = run.spec()
        (run.path / "error.json").unlink(missing_ok=True)
        stop = StopRequest(spec.deadline, asked)
        stop.listen()
        _check_store(spec)
        with closing(RunReports(run.reports_file, run.fence.check)) as reports:
            observer = Several((reports, *observers_for(run, spec)))
            context = Context(run=run, spec=spec, observer=observer, should_stop=stop)
            order = LaterEvaluation.read(run.path)
            if order is None:
                run_job(context, until=until)
            else:
                evaluate_later(context, order)


def _check_store(spec: JobSpec) -> None:
    """A store that is none is said before anything is done, not when training begins."""
    if spec.checkpoints.store is not None:
        open_store(spec.checkpoints.store)
