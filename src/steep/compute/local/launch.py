"""What a keeper is told, and what it answers: one line of JSON each, over a pipe or a socket, never on disk."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Self

from steep.spec.errors import InvalidInput, OutOfSpace, SteepError

_KINDS: dict[str, type[SteepError]] = {kind.__name__: kind for kind in (SteepError, InvalidInput, OutOfSpace)}


class _Line:
    """A message that is one line."""

    def line(self) -> bytes:
        """As it goes over the wire."""
        return json.dumps(asdict(self)).encode() + b"\n"  # type: ignore[call-overload]  # each heir is a dataclass


@dataclass(frozen=True)
class Launch(_Line):
    """Start a worker.

    Args:
        handle: of the worker; it is also its mark.
        program: the module that is the worker, as for `python -m`; its one argument is the run directory.
        environment: all variables of the worker, secrets too.
        device_locks: files to hold for as long as the worker uses the devices.
    """

    handle: str
    program: str
    environment: dict[str, str]
    device_locks: tuple[str, ...]

    @classmethod
    def read(cls, line: bytes) -> Self:
        """The order in a line."""
        values = json.loads(line)
        return cls(**{**values, "device_locks": tuple(values["device_locks"])})


@dataclass(frozen=True)
class Answer(_Line):
    """It was started, now or before; or an error for the user.

    Args:
        kind: class of the error; empty when there is none.
        what: see `SteepError`, also for the others.
    """

    kind: str = ""
    what: str = ""
    where: str | None = None
    cure: str | None = None

    @classmethod
    def read(cls, line: bytes) -> Self:
        """The answer in a line."""
        return cls(**json.loads(line))

    @classmethod
    def of_error(cls, error: SteepError) -> Self:
        """The answer that says this error."""
        kind = type(error).__name__
        return cls(kind if kind in _KINDS else SteepError.__name__, error.what, error.where, error.cure)

    def raise_error(self) -> None:
        """Raise the error that it says, if it says one."""
        if self.kind:
            raise _KINDS[self.kind](self.what, where=self.where, cure=self.cure)


def write_line(descriptor: int, line: bytes) -> None:
    """Write all of a line."""
    while line:
        line = line[os.write(descriptor, line) :]
