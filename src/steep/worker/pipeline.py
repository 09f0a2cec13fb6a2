"""A job on one page: its stages in order, each skipped when its result is there and its inputs are the same."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any, Literal, Protocol

from steep.artifacts.files import full_disk_stops, hash_text
from steep.spec.errors import OutOfSpace, Stopped
from steep.spec.reports import StageReport
from steep.spec.stages import ORDER, Stage
from steep.worker.context import Context
from steep.worker.hubnames import settle_commits


class StageWork(Protocol):
    """What a stage's module provides."""

    def inputs(self, context: Context) -> dict[str, Any]:
        """All that the stage's result depends on, as JSON values; its hash is the stage's fingerprint."""

    def there(self, context: Context) -> bool:
        """Whether what it made still lies there; asked when it was complete."""

    def work(self, context: Context) -> dict[str, Any]:
        """Do it. Idempotent. Returns facts for the completion record."""


def stage_works() -> dict[Stage, StageWork]:
    """The modules that do the stages."""
    from steep.worker import assess, evaluate, export, prepare, select, train

    return {
        Stage.PREPARE: prepare,
        Stage.ASSESS: assess,
        Stage.TRAIN: train,
        Stage.EVALUATE: evaluate,
        Stage.SELECT: select,
        Stage.EXPORT: export,
    }


def run_job(context: Context, *, until: Stage | None = None) -> None:
    """Run the stages that are not complete yet.

    Raises:
        Stopped: asked to stop; the same call goes on later.
        SteepError: anything else that a user must know.
    """
    works = stage_works()
    settle_commits(context)
    for stage in ORDER:
        if reason := context.should_stop():
            raise Stopped(f"stopped before {stage}: {reason}", cure="Run the same command to go on.")
        run_stage(context, stage, works[stage])
        if stage == until:
            return


def run_stage(context: Context, stage: Stage, work: StageWork) -> None:
    """Run one stage unless it is complete for the same inputs; a changed stage makes the later ones run again."""
    fingerprint = hash_text(json.dumps(work.inputs(context), sort_keys=True, default=str))
    done = context.run.completion(stage)
    same = done is not None and done["fingerprint"] == fingerprint
    if same and work.there(context):
        context.observer.stage(StageReport(stage=stage, event="skipped", detail="complete with the same inputs"))
        return
    if done is not None:
        why = "what it made is gone or outdated" if same else "its inputs changed since it was complete"
        context.notice("stage_again", f"{stage} runs again: {why}")
    context.observer.stage(StageReport(stage=stage, event="started"))
    started = time.monotonic()
    try:
        with full_disk_stops(context.run.path):  # what libraries write fills it too
            outputs = work.work(context)
    except BaseException as error:
        seconds = time.monotonic() - started
        event: Literal["stopped", "failed"] = "stopped" if isinstance(error, Stopped) else "failed"
        with suppress(OutOfSpace):  # what went wrong in the first place is to be told
            context.observer.stage(StageReport(stage=stage, event=event, seconds=seconds, detail=str(error)))
        raise
    context.run.complete(stage, fingerprint, outputs)
    context.observer.stage(StageReport(stage=stage, event="completed", seconds=time.monotonic() - started))
