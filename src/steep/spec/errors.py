"""The one tree of errors a user can meet.

    SteepError                       exit 1
    |-- InvalidInput                 exit 2   the user can mend it: spec, files, model, options
    |   |-- InvalidSpec                       the job spec itself
    |   |-- InvalidCorpus                     sources, formats, fields, encodings
    |   |-- InvalidModel                      base model or tokenizer does not load or does not match
    |   |-- RunBusy                           another process holds the run directory
    |   |-- NotFound                          the server has no such thing, or not for this key
    |   |-- Unauthorized                      no key, or one that is unknown, expired or revoked
    |   |-- Forbidden                         the key may not do that
    |   `-- Conflict                          what is asked for does not fit how things stand
    |-- Stopped                      exit 3   the run stopped in good order and can be resumed
    |   |-- OutOfSpace                        the disk is full; nothing was corrupted
    |   |-- Fenced                            another attempt works on the run; this one may write nothing more
    |   `-- StoppedByGuard                    it forgets too much; goes on only when the spec says so
    |-- DamagedArtifact              exit 1   bytes do not match their manifest
    |-- TrainingFailed               exit 1   loss stayed non-finite, or the run cannot go on
    `-- ServerUnavailable            exit 1   the server cannot be reached, or cannot answer now

Every error says what is wrong, where, and what to do: `what` and `where` make the message, `cure` the advice. `code` names
its class to programs, and over the wire (`spec/api/common.Problem`).
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_INVALID = 2
EXIT_STOPPED = 3
EXIT_LEFT = 130  # Ctrl-C while something was only watched, as shells say of SIGINT


class SteepError(Exception):
    """Root of every error that is meant for a user.

    Args:
        what: one sentence that says what is wrong.
        where: the file, field or object concerned.
        cure: one sentence that says what to do about it.
    """

    exit_code = EXIT_FAILED
    code = "failed"

    def __init__(self, what: str, *, where: str | None = None, cure: str | None = None) -> None:
        self.what = what
        self.where = where
        self.cure = cure
        super().__init__(what if where is None else f"{where}: {what}")


class InvalidInput(SteepError):
    """Something the user gave is wrong; nothing was trained and nothing was lost."""

    exit_code = EXIT_INVALID
    code = "invalid_input"


class InvalidSpec(InvalidInput):
    """The job spec is not valid."""

    code = "invalid_spec"


class InvalidCorpus(InvalidInput):
    """A source is missing, empty, unreadable or not what the spec says."""

    code = "invalid_corpus"


class InvalidModel(InvalidInput):
    """The base model or its tokenizer does not load, or they do not match."""

    code = "invalid_model"


class RunBusy(InvalidInput):
    """Another process is working in the run directory."""

    code = "run_busy"


class NotFound(InvalidInput):
    """The server has no such thing, or does not show it to this key."""

    code = "not_found"


class Unauthorized(InvalidInput):
    """No key was given, or it is unknown, expired or revoked."""

    code = "unauthorized"


class Forbidden(InvalidInput):
    """The key is good, and may not do what was asked for."""

    code = "forbidden"


class Conflict(InvalidInput):
    """What was asked for does not fit how things stand, such as a pause of a job that has ended."""

    code = "conflict"


class Stopped(SteepError):
    """The run stopped in good order; the same command goes on where it was."""

    exit_code = EXIT_STOPPED
    code = "stopped"


class OutOfSpace(Stopped):
    """The disk is full. What was committed is safe; free space and run the same command."""

    code = "out_of_space"


class Fenced(Stopped):
    """A later attempt works on the run; this one may write nothing more, and what it committed before is safe."""

    code = "fenced"


class StoppedByGuard(Stopped):
    """The model forgets more than its budget, and `evaluation.on_forgetting` says to stop; nothing is lost."""

    code = "stopped_by_guard"


class DamagedArtifact(SteepError):
    """Bytes on disk or in a store are not those that the manifest names."""

    code = "damaged_artifact"


class TrainingFailed(SteepError):
    """Training cannot go on, and trying again would end in the same way."""

    code = "training_failed"


class ServerUnavailable(SteepError):
    """The server cannot be reached, or cannot answer now; the same may work later."""

    code = "server_unavailable"


def error_class(code: str) -> type[SteepError] | None:
    """The class of this tree that has a code, or nothing: a newer server may know more of them."""
    pending: list[type[SteepError]] = [SteepError]
    while pending:
        one = pending.pop()
        if one.code == code:
            return one
        pending += one.__subclasses__()
    return None
