"""`python -m steep.worker.completions MODEL`: hold a model and complete prompts, for a server that has no torch.

Orders come as lines of JSON on standard input, answers go as lines of JSON to standard output (`spec/completions.py`), one order
after another. When standard input ends, so does the process, at once: whoever started it is gone.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from steep.spec.completions import TOLD, Forget, Ready, Refused, Write
from steep.spec.errors import EXIT_DONE, EXIT_FAILED, SteepError
from steep.worker.completions_writer import load_checkpoint, load_directory

if TYPE_CHECKING:
    from pydantic import BaseModel

    from steep.worker.completions_writer import Say


def main(arguments: list[str] | None = None) -> int:
    """Load the model, and work until nobody is there any more; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m steep.worker.completions", description="Complete prompts.")
    parser.add_argument("model", type=Path, help="directory of a model, or a run directory")
    parser.add_argument("--step", type=int, help="the checkpoint of this step of the run directory")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")
    options = parser.parse_args(arguments)
    say = _saying(_own_output())
    orders = Orders()
    threading.Thread(target=orders.listen, args=(sys.stdin.buffer,), daemon=True).start()
    try:
        if options.step is None:
            writer = load_directory(options.model, trust_remote_code=options.trust_remote_code)
        else:
            writer = load_checkpoint(options.model, options.step, trust_remote_code=options.trust_remote_code)
    except SteepError as error:
        say(_refusal(None, error))
        return error.exit_code
    say(Ready(context_tokens=writer.context_tokens))
    for order in orders:
        try:
            writer.carry_out(order, say, partial(orders.is_wanted, order.order))
        except SteepError as error:
            say(_refusal(order.order, error))
        except Exception as error:  # noqa: BLE001 - the last resort: one order that fails must not take the others along
            traceback.print_exc()
            say(Refused(order=order.order, code=SteepError.code, what=f"unexpected {type(error).__name__}: {error}"))
    return EXIT_DONE


class Orders:
    """What is asked for, in its order. One thread listens, another one works."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Write] = queue.Queue()
        self._wanted: set[int] = set()

    def __iter__(self) -> Iterator[Write]:
        while True:
            order = self._waiting.get()
            if self.is_wanted(order.order):
                yield order
            self._wanted.discard(order.order)

    def is_wanted(self, order: int) -> bool:
        """Whether somebody still waits for it."""
        return order in self._wanted

    def take(self, line: bytes) -> None:
        """Take in one line. Raises ValidationError when it is nothing that can be told."""
        told = TOLD.validate_json(line)
        if isinstance(told, Forget):
            self._wanted.discard(told.order)
        else:
            self._wanted.add(told.order)
            self._waiting.put(told)

    def listen(self, lines: BinaryIO) -> None:
        """Take in what comes, until nothing more can: then the process ends, whatever it is doing, as nobody could end it."""
        exit_code = EXIT_FAILED
        try:
            for line in lines:
                self.take(line)
            exit_code = EXIT_DONE
        except Exception:  # noqa: BLE001 - whatever it is, it is told of before the process ends
            traceback.print_exc()
        finally:
            os._exit(exit_code)  # nothing is written anywhere, so there is nothing to leave in order


def _own_output() -> BinaryIO:
    """Standard output for answers alone: whatever else is printed goes where errors go."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return answers


def _saying(stream: BinaryIO) -> Say:
    def say(message: BaseModel) -> None:
        line = message.model_dump_json().encode() + b"\n"
        while line:
            line = line[stream.write(line) :]

    return say


def _refusal(order: int | None, error: SteepError) -> Refused:
    return Refused(order=order, code=error.code, what=error.what, where=error.where, cure=error.cure)


if __name__ == "__main__":
    sys.exit(main())
