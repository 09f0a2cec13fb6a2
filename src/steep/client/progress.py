"""How far a job is, in a line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from steep.spec.api.jobs import JobView


def describe(job: JobView) -> str:
    """A job's state and progress in a line: `running: train, step 340 of 1,000, loss 2.310, 12,300 tokens/s, 4 min left`."""
    standing, progress = job.standing, job.progress
    if standing.is_terminal or progress.stage is None or standing.state != "running":
        return f"{standing.state}: {standing.detail or str(standing.reason).replace('_', ' ')}"
    facts = [progress.stage]
    trains = progress.stage == "train"  # later stages keep the last numbers of training
    if trains and progress.step:
        of = "" if progress.total_steps is None else f" of {progress.total_steps:,}"
        facts.append(f"step {progress.step:,}{of}")
    elif progress.what and progress.done is not None:
        of = "" if progress.total is None else f" of {progress.total:,.0f}"
        facts.append(f"{progress.done:,.0f}{of} {progress.what}")
    if trains and progress.loss is not None:
        facts.append(f"loss {progress.loss:.3f}")
    if trains and progress.tokens_per_second is not None:
        facts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.eta_seconds is not None:
        facts.append(f"{_duration(progress.eta_seconds)} left")
    return f"{standing.state}: {', '.join(facts)}"


def line_on(stream: TextIO | None = None) -> Callable[[JobView], None]:
    """Shows a job on one line of a terminal again and again; elsewhere, one line for each state and stage."""
    out = stream or sys.stderr
    shown = ""

    def show(job: JobView) -> None:
        nonlocal shown
        line = f"{job.name} {describe(job)}"
        if out.isatty():
            end = "\n" if job.standing.is_terminal else ""
            out.write(f"\r{line:<{len(shown)}}{end}")
            shown = line
        elif (now := f"{job.standing.state} {job.standing.reason} {job.progress.stage}") != shown:
            out.write(f"{line}\n")
            shown = now
        out.flush()

    return show


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
