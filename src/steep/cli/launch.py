"""Start a worker for a run directory, pass signals on to it, and learn how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from steep.artifacts.files import write_atomic
from steep.artifacts.rundir import RunDirectory
from steep.spec.errors import EXIT_DONE, EXIT_FAILED, EXIT_INVALID, EXIT_STOPPED, RunBusy, SteepError
from steep.spec.stages import Stage

LOG_TAIL_LINES = 30
WORKER = (sys.executable, "-m", "steep.worker")


def is_busy(run: RunDirectory) -> bool:
    """Whether a process works on the run now."""
    if not (run.path / "lock").exists():
        return False
    try:
        with run.lock():
            return False
    except RunBusy:
        return True


def start_worker(run: RunDirectory, *, until: str | None = None) -> subprocess.Popen[bytes]:
    """Start `python -m steep.worker RUN` in a process group of its own; what it prints goes to `RUN/worker.log`.

    Raises:
        RunBusy: another process works on the run.
    """
    with run.lock():
        pass  # free; from here on the worker holds it, and refuses by itself should another be quicker
    (run.path / "error.json").unlink(missing_ok=True)
    command = [*WORKER, str(run.path)]
    if until is not None:
        command += ["--until", until]
    with open(run.path / "worker.log", "ab") as log:
        worker = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    write_atomic(run.path / "worker.json", json.dumps({"worker": worker.pid, "launcher": os.getpid(), "until": until}))
    return worker


def is_orphaned(run: RunDirectory) -> bool:
    """Whether the process that started the run's worker is gone, so that nobody watches it."""
    import psutil

    try:
        started = json.loads((run.path / "worker.json").read_bytes())
        launcher = psutil.Process(started["launcher"])
        born = launcher.create_time()
    except (FileNotFoundError, ValueError, KeyError):
        return False
    except psutil.NoSuchProcess:
        return True
    return born > (run.path / "worker.json").stat().st_mtime  # another process has got the number since


@contextmanager
def forwarded_signals(pid: int, on_signal: Any) -> Iterator[None]:
    """While the block runs, SIGINT and SIGTERM go to the worker, which saves a checkpoint and ends."""

    def forward(number: int, frame: FrameType | None) -> None:
        on_signal(number)
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            return  # it has ended already

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def outcome_error(run: RunDirectory, returncode: int | None) -> SteepError | None:
    """Why a worker ended without being done, as an error for users; None when it was done.

    Args:
        run: the run it worked on.
        returncode: how it ended; None when that is not known because another process had started it.
    """
    if returncode == EXIT_DONE:
        return None
    try:
        told = json.loads((run.path / "error.json").read_bytes())
    except (FileNotFoundError, ValueError):
        if returncode == EXIT_INVALID and is_busy(
            run
        ):  # another was quicker, and a refused worker writes nothing there
            return RunBusy("another process is working here", where=str(run.path), cure="`steep watch` shows it.")
        return None if returncode is None and _is_complete(run) else _silent_death(run, returncode)
    return _as_error(told)


def _as_error(told: dict[str, Any]) -> SteepError:
    """What a worker wrote down of its error, as an error with the same exit code."""
    error = SteepError(told["what"], where=told.get("where"), cure=told.get("cure"))
    error.exit_code = told["exit_code"]
    return error


def _is_complete(run: RunDirectory) -> bool:
    try:
        until = json.loads((run.path / "worker.json").read_bytes())["until"]
    except (FileNotFoundError, ValueError, KeyError):
        until = None
    return run.completion(Stage(until or Stage.EXPORT)) is not None


def _silent_death(run: RunDirectory, returncode: int | None) -> SteepError:
    log = str(run.path / "worker.log")
    if returncode is not None and returncode >= 0:
        return SteepError(f"the worker ended with code {returncode} and said nothing", where=log, cure="Read that log.")
    if returncode is None:  # it was killed, or the run was rolled back or branched and nothing has begun since
        error = SteepError(
            "is not done, and nobody works on it", where=str(run.path), cure="`steep run` goes on where it was."
        )
        error.exit_code = EXIT_STOPPED
        return error
    how = f"was killed by {signal.Signals(-returncode).name}"
    memory = " If nobody killed it, memory ran out: see `training.microbatch_sequences`." if returncode == -9 else ""
    error = SteepError(f"the worker {how}", where=log, cure=f"The same command goes on where it was.{memory}")
    error.exit_code = EXIT_FAILED if returncode == -9 else EXIT_STOPPED
    return error


def log_tail(run: RunDirectory) -> str:
    """The end of what the worker printed."""
    path = run.path / "worker.log"
    if not path.exists():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:])


def act(action: str, arguments: dict[str, Any], run: Path | None = None) -> dict[str, Any]:
    """Have a worker process do one thing that needs a model; returns its answer.

    Raises:
        SteepError: what the worker says, or that it died.
    """
    command = [*WORKER, "--action", action, "--arguments", json.dumps(arguments)]
    if run is not None:
        command.append(str(run))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    try:
        answer: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip() or done.stdout.strip() or f"code {done.returncode}").splitlines()[-1]
        raise SteepError(f"the worker failed: {last}", where=action) from None
    if "error" in answer:
        raise _as_error(answer["error"])
    return answer
