"""What commands print: errors, JSON and sentences. Answers go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
from typing import Any

from steep.spec.errors import EXIT_FAILED, SteepError


def print_json(value: Any) -> None:
    """One JSON document on stdout; a number that is none (not measured) becomes null."""
    print(json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(text: str = "") -> None:
    """A sentence beside the answer, on stderr."""
    print(text, file=sys.stderr, flush=True)


def explain(error: Exception) -> int:
    """Tell the user what is wrong, where, and what to do; returns the exit code.

    Tracebacks are shown only with `--debug`.
    """
    if debugging():
        traceback.print_exception(error)
    if isinstance(error, SteepError):
        show_error(error.what, error.where, error.cure, stopped=error.exit_code == 3)
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the last flush is silent too
        return EXIT_FAILED
    show_error(f"unexpected {type(error).__name__}: {error}", None, "Run it with --debug to see where this comes from.")
    return EXIT_FAILED


def show_error(what: str, where: str | None, cure: str | None, *, stopped: bool = False) -> None:
    """Print an error, or a stop in good order, in the one form that users meet."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    title = Text("Stopped: ", "bold yellow") if stopped else Text("Error: ", "bold red")
    console.print(title + Text(what if where is None else f"{where}: {what}"))
    if cure:
        console.print(Text(cure, "cyan"))


def debugging() -> bool:
    """Whether the user asked for tracebacks."""
    return bool(os.environ.get("STEEP_DEBUG"))
