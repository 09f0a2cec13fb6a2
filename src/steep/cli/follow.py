"""Draw a run until its worker ends."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext

from rich.console import Console

from steep.artifacts.rundir import RunDirectory
from steep.cli import launch
from steep.cli.console import Screen, make_screen
from steep.cli.output import debugging
from steep.cli.tail import Tail
from steep.spec.errors import SteepError

POLL_SECONDS = 0.1


def follow(
    run: RunDirectory,
    console: Console,
    start: Callable[[], subprocess.Popen[bytes]] | None = None,
    *,
    history: bool = False,
) -> SteepError | None:
    """Show reports until the worker ends; returns why it ended, when the job was not done.

    Args:
        run: what it works on.
        console: where to draw.
        start: starts the worker, to which SIGINT and SIGTERM are then passed on. Without it, the run is only watched.
        history: show what was reported earlier too; otherwise it is only taken into account.

    Raises:
        RunBusy: `start` found another process at work.
    """
    tail = Tail(run.reports_file)
    earlier = tail.read()
    worker = start() if start is not None else None
    screen = make_screen(console)
    try:
        for report in earlier:
            if history:
                screen.show(report)
            else:
                screen.recall(report)
        forwarding = nullcontext() if worker is None else launch.forwarded_signals(worker.pid, _stopping(screen))
        with forwarding:
            _watch(run, tail, screen, worker)
    finally:
        screen.close()
    error = launch.outcome_error(run, None if worker is None else worker.returncode)
    if error is not None and debugging():
        console.print(launch.log_tail(run), markup=False, highlight=False)
    return error


def _watch(run: RunDirectory, tail: Tail, screen: Screen, worker: subprocess.Popen[bytes] | None) -> None:
    ended = False
    while not ended:
        ended = not launch.is_busy(run) if worker is None else worker.poll() is not None
        for report in tail.read():  # once more after its end, so that its last words are not lost
            screen.show(report)
        if not ended:
            time.sleep(POLL_SECONDS)


def _stopping(screen: Screen) -> Callable[[int], None]:
    def tell(number: int) -> None:
        screen.say(
            f"{signal.Signals(number).name}: what is done is kept, and the run stops at the next safe point; please wait."
        )

    return tell
