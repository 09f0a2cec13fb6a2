"""The fence of a run: which attempts may still write there.

`RUN/fence` holds numbers of attempts, one a line, and the highest counts. It is only ever appended to, so it can only
rise, whoever moves it and from wherever, and half a line that a crash left spoils nothing. An attempt asks before
whatever makes its work count (a checkpoint's manifest, a stage's completion, a report), and is refused once a later one
has begun. A run without a service has no fence.

Between the question and the commit lies a moment in which the fence may move. What slips through is harmless: both attempts
carry out one recipe, so it has the same bytes that the later one writes.
"""

from __future__ import annotations

import os
from pathlib import Path

from steep.artifacts.files import full_disk_stops, sync_directory
from steep.spec.errors import Fenced


class Fence:
    """The fence of one run, as one attempt sees it.

    Args:
        path: of the file, `RUN/fence`.
        attempt: the number of the attempt that writes; None is no attempt of a service, and is never refused.
    """

    def __init__(self, path: Path, attempt: int | None = None) -> None:
        self.path = path
        self.attempt = attempt
        self._closed: str | None = None

    def height(self) -> int:
        """The highest number of an attempt that was let in; 0 when there was none."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return 0
        whole = content[: content.rfind(b"\n") + 1]
        return max((int(line) for line in whole.split() if line.isdigit()), default=0)

    def move(self, attempt: int) -> None:
        """From now on, attempts with a lower number are refused.

        Raises:
            OutOfSpace: the disk is full.
        """
        if self.height() >= attempt:
            return
        with full_disk_stops(self.path), open(self.path, "ab", buffering=0) as stream:
            stream.write(b"\n%d\n" % attempt)  # half a line before it ends there
            os.fsync(stream.fileno())
        sync_directory(self.path.parent)

    def enter(self) -> None:
        """Let the own attempt in, and none before it.

        Raises:
            Fenced: a later one is in already.
        """
        self.check()
        if self.attempt is not None:
            self.move(self.attempt)

    def close(self, why: str) -> None:
        """Refuse the own attempt from now on, whatever the file says: the server has told so."""
        self._closed = why

    def check(self) -> None:
        """Ask before a commit. Cheap: the file has a line for each attempt.

        Raises:
            Fenced: the own attempt may write nothing more.
        """
        if self.attempt is None:
            return
        why = self._closed
        if why is None and (height := self.height()) > self.attempt:
            why = f"attempt {height} works on the run now"
        if why is not None:
            raise Fenced(
                f"attempt {self.attempt} may write nothing more: {why}",
                where=str(self.path.parent),
                cure="Nothing needs to be done; what was committed before is safe.",
            )
