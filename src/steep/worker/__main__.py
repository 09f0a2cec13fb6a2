"""`python -m steep.worker RUN`: work on a run directory until it is complete. Exit codes as in `spec/errors.py`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from steep.artifacts.files import write_atomic
from steep.artifacts.rundir import RunDirectory
from steep.spec.errors import EXIT_DONE, EXIT_FAILED, Fenced, OutOfSpace, RunBusy, SteepError
from steep.spec.stages import Stage
from steep.worker.attempt import take_attempt
from steep.worker.sender import sending


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and work; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m steep.worker", description="Work on a run directory.")
    parser.add_argument("run", nargs="?", type=Path, help="the run directory; its job.yaml says what to do")
    parser.add_argument("--until", choices=[str(stage) for stage in Stage], help="stop after this stage")
    parser.add_argument("--action", help="do one thing instead of the stages, and print its result as JSON")
    parser.add_argument("--arguments", default="{}", help="arguments of the action, as a JSON object")
    options = parser.parse_args(arguments)
    if options.action is not None:
        return _act(options.action, options.arguments)
    if options.run is None:
        parser.error("a run directory is needed")
    try:
        attempt = take_attempt(os.environ)
    except SteepError as error:
        _explain(error)
        return error.exit_code
    run = RunDirectory(options.run, attempt=None if attempt is None else attempt.number)
    with sending(run, attempt, os.environ) as asked:  # before anything is imported: the server waits to hear of it
        return _work(run, options.until, asked)


def _work(run: RunDirectory, until: str | None, asked: Callable[[], str | None]) -> int:
    from steep.worker.run import work_on

    try:
        work_on(run, until=None if until is None else Stage(until), asked=asked)
    except SteepError as error:
        _explain(error)
        if not isinstance(error, RunBusy | Fenced):  # the run is another's, and so is what lies there
            _leave_word(run, _fields(error))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last resort: whatever it is, the user must be told
        traceback.print_exc()
        printed = "worker.log" if run.fence.attempt is None else "worker.err"  # as a service calls what workers print
        unexpected = {"what": f"unexpected {type(error).__name__}: {error}", "where": str(run.path / printed)}
        _leave_word(run, {**unexpected, "cure": None, "exit_code": EXIT_FAILED})
        return EXIT_FAILED
    (run.path / "error.json").unlink(missing_ok=True)
    return EXIT_DONE


def _leave_word(run: RunDirectory, fields: dict[str, object]) -> None:
    """Tell whoever started this worker why it ended; what was printed says so too."""
    if not run.path.is_dir():
        return
    try:
        write_atomic(run.path / "error.json", json.dumps(fields))
    except OutOfSpace:
        print("There is not even room for error.json.", file=sys.stderr)


def _act(action: str, arguments: str) -> int:
    from steep.worker.actions import act

    try:
        result = act(action, json.loads(arguments))
    except SteepError as error:
        print(json.dumps({"error": _fields(error)}))
        return error.exit_code
    print(json.dumps(result))
    return EXIT_DONE


def _fields(error: SteepError) -> dict[str, object]:
    fields = {"what": error.what, "where": error.where, "cure": error.cure}
    return {**fields, "code": error.code, "exit_code": error.exit_code}


def _explain(error: SteepError) -> None:
    print(error, file=sys.stderr)
    if error.cure:
        print(error.cure, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
