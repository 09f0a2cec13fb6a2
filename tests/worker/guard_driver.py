"""A run that forgets, and is killed at one moment after another.

    python guard_driver.py RUN

Trains an assessed run in one child after another. Each kills itself (SIGKILL) at its moment, and the last one ends well.
Prints the moments.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from steep.artifacts import lineage
from steep.artifacts.rundir import RunDirectory
from steep.spec.job import JobSpec
from steep.spec.reports import CheckpointReport, EvaluationReport, NoticeReport, StageReport, StepReport
from steep.spec.stages import Stage
from steep.train.observer import Silent
from steep.worker import guard, replay
from steep.worker.context import Context
from steep.worker.pipeline import run_job
from steep.worker.preload import preload
from steep.worker.replay import SelfSampler

STEPS, EVERY = 15, 3
PART_TOKENS = 100  # of text sampled from the base, so that more replay needs more of them


class Recorder(Silent):
    """Remembers what it hears, and may do something on hearing of a step or a notice."""

    def __init__(self) -> None:
        self.steps: list[StepReport] = []
        self.evaluations: list[EvaluationReport] = []
        self.checkpoints: list[CheckpointReport] = []
        self.notices: list[NoticeReport] = []
        self.stages: list[StageReport] = []
        self.on_step: Callable[[int], None] = lambda step: None
        self.on_evaluation: Callable[[int], None] = lambda step: None

    def stage(self, report: StageReport) -> None:
        if report.event != "started":
            self.stages.append(report)

    def step(self, report: StepReport) -> None:
        self.steps.append(report)
        self.on_step(report.step)

    def evaluation(self, report: EvaluationReport) -> None:
        self.evaluations.append(report)
        self.on_evaluation(report.step)

    def checkpoint(self, report: CheckpointReport) -> None:
        self.checkpoints.append(report)

    def notice(self, report: NoticeReport) -> None:
        self.notices.append(report)


def job(place: Path, **evaluation: object) -> JobSpec:
    """A job that forgets at once what its base knew."""
    return JobSpec.model_validate({
        "name": "guarded",
        "base": str(place / "base"),
        "corpus": {"sources": [str(place / "text")], "holdout": "10%"},
        "replay": {"share": "5%", "distill": 0},
        "training": {
            "budget": f"{STEPS} steps", "sequence_tokens": 32, "global_batch_tokens": 256, "learning_rate": 1e-2,
            "precision": "fp32", "compile": False, "warmup": 0, "decay": "20%",
        },
        "checkpoints": {"every": f"{EVERY} steps", "keep_last": 2},
        "evaluation": {"max_tokens": 200, "interpolate": [], "forgetting_budget": 0.05, "general": [str(place / "general")], **evaluation},
    })  # fmt: skip


def work(
    run: RunDirectory,
    heard: Recorder | None = None,
    *,
    until: Stage = Stage.TRAIN,
    should_stop: Callable[[], str | None] = lambda: None,
) -> None:
    """Run the stages of a run in this process, up to training."""
    run_job(context_of(run, heard, should_stop), until=until)


def context_of(
    run: RunDirectory, heard: Recorder | None = None, should_stop: Callable[[], str | None] = lambda: None
) -> Context:
    """What the stages of a run share."""
    return Context(run=run, spec=run.spec(), observer=heard or Recorder(), should_stop=should_stop)


def weights(run: RunDirectory) -> dict[str, str]:
    """Hashes of the last weights."""
    manifest = run.catalog().verify(STEPS)
    return {name: record.blake3 for name, record in manifest.files.items() if name.endswith(".safetensors")}


# ------------------------------------------------------------------------------------------------------------- killing


def die(*_: object) -> None:
    """End at once, as a power cut ends it."""
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: object, name: str) -> Callable[[Recorder], None]:
    """Die when a function is called."""
    return lambda heard: setattr(owner, name, die)


def after(owner: object, name: str, times: int = 1) -> Callable[[Recorder], None]:
    """Die when a function has been called so often."""
    done = getattr(owner, name)
    left = [times]

    def called(*arguments: object, **options: object) -> object:
        result = done(*arguments, **options)
        left[0] -= 1
        return result if left[0] else die()

    return lambda heard: setattr(owner, name, called)


def at_evaluation(heard: Recorder) -> None:
    """Die on the evaluation that passes the budget, before the checkpoint is saved."""
    heard.on_evaluation = lambda step: die() if step == 2 * EVERY else None


def on_the_way(heard: Recorder) -> None:
    """Die after the rollback, when steps have been made and none is saved yet."""
    heard.on_step = lambda step: die() if step == EVERY + 2 else None


MOMENTS: dict[str, Callable[[Recorder], None]] = {
    "evaluated": at_evaluation,
    "decided": before(guard.Guard, "_plan"),
    "sampled": after(SelfSampler, "sample_replay"),
    "recorded": before(guard.Guard, "_apply"),
    "in the middle of going back": after(lineage, "_move", 2),
    "on the way": on_the_way,
    "recorded again": after(guard.Guard, "_record"),
}


def child(prepare: Callable[[Recorder], None], run: RunDirectory) -> int:
    """Train in a process of its own; returns how that ended."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            heard = Recorder()
            prepare(heard)
            work(run, heard)
            code = 0
        except BaseException:  # noqa: BLE001 - whatever it is, what follows is the parent's to do
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(run: RunDirectory) -> None:
    """Kill a run at each moment, one after another, and let it end."""
    preload()  # once for all children
    replay.PART_TOKENS = PART_TOKENS
    torch.set_num_threads(1)
    for moment, prepare in MOMENTS.items():
        if (code := child(prepare, run)) != -signal.SIGKILL:
            sys.exit(f"{moment}: was not killed but ended with {code}")
    if (code := child(lambda heard: None, run)) != 0:
        sys.exit(f"did not end well: {code}")
    print(json.dumps(list(MOMENTS)))


if __name__ == "__main__":
    main(RunDirectory(sys.argv[1]))
