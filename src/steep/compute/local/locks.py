"""Files that the system itself keeps locked for as long as a process, or anything forked from it, lives.

Such a lock needs no record that could be stale: it is freed at the moment at which the last holder has ended, however it
did. An attempt holds one file in its run directory, and one for each device that it uses.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PATIENCE_SECONDS = 1.0
_LOOK_SECONDS = 0.02


class Held(Exception):
    """Somebody else holds the lock."""


def take(path: Path, word: str, *, patience_seconds: float = _PATIENCE_SECONDS) -> int:
    """Lock a file, leave a word in it for those who look, and return its descriptor; forks share it, programs do not.

    Waits a moment where it is held: whoever asks whether a lock is free holds it for an instant, and a holder that has
    just been killed takes an instant to end.

    Raises:
        Held: it stays held by somebody else.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(_LOOK_SECONDS)
                continue
            os.close(descriptor)
            raise Held(path.name) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, word.encode(), 0)
        return descriptor


def is_held(path: Path) -> bool:
    """Whether anything that holds the lock still lives."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def word_of(path: Path) -> str:
    """What the last holder left in it; nothing where it was never held."""
    with suppress(FileNotFoundError):
        return path.read_text()
    return ""


@contextmanager
def released(descriptor: int) -> Iterator[None]:
    """Free a lock that `take` gave when the block ends."""
    try:
        yield
    finally:
        os.close(descriptor)
