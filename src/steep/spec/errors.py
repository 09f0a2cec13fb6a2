"""The one tree of errors a user can meet.

    SteepError                       exit 1
    |-- InvalidInput                 exit 2   the user can mend it: spec, files, model, options
    |   |-- InvalidSpec                       the job spec itself
    |   |-- InvalidCorpus                     sources, formats, fields, encodings
    |   `-- InvalidModel                      base model or tokenizer does not load or does not match
    |-- Stopped                      exit 3   the run stopped in good order and can be resumed
    |   `-- OutOfSpace                        the disk is full; nothing was corrupted
    |-- RunBusy                      exit 2   another process holds the run directory
    |-- DamagedArtifact              exit 1   bytes do not match their manifest
    `-- TrainingFailed               exit 1   loss stayed non-finite, or the run cannot go on

Every error says what is wrong, where, and what to do: `what` and `where` make the message, `cure` the advice.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_INVALID = 2
EXIT_STOPPED = 3


class SteepError(Exception):
    """Root of every error that is meant for a user.

    Args:
        what: one sentence that says what is wrong.
        where: the file, field or object concerned.
        cure: one sentence that says what to do about it.
    """

    exit_code = EXIT_FAILED

    def __init__(self, what: str, *, where: str | None = None, cure: str | None = None) -> None:
        self.what = what
        self.where = where
        self.cure = cure
        super().__init__(what if where is None else f"{where}: {what}")


class InvalidInput(SteepError):
    """Something the user gave is wrong; nothing was trained and nothing was lost."""

    exit_code = EXIT_INVALID


class InvalidSpec(InvalidInput):
    """The job spec is not valid."""


class InvalidCorpus(InvalidInput):
    """A source is missing, empty, unreadable or not what the spec says."""


class InvalidModel(InvalidInput):
    """The base model or its tokenizer does not load, or they do not match."""


class RunBusy(InvalidInput):
    """Another process is working in the run directory."""


class Stopped(SteepError):
    """The run stopped in good order; the same command goes on where it was."""

    exit_code = EXIT_STOPPED


class OutOfSpace(Stopped):
    """The disk is full. What was committed is safe; free space and run the same command."""


class DamagedArtifact(SteepError):
    """Bytes on disk or in a store are not those that the manifest names."""


class TrainingFailed(SteepError):
    """Training cannot go on, and trying again would end in the same way."""
