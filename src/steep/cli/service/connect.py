"""The server that a command speaks to, and the job that it is about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steep.client.client import Client

PATIENCE_SECONDS = 5.0
"""How long a command tries to reach a server that is away: somebody waits for it."""

PORTS = {"http": 80, "https": 443}

FOLLOWING_SECONDS = 600.0
"""How long it is waited for while it is followed: a restart must not end that."""

_JOB_ID = re.compile(r"job-[0-9a-z]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@contextmanager
def connected(*, patience_seconds: float | None = None) -> Iterator[Client]:
    """A client for the server that is known here; by default as patient as PATIENCE_SECONDS.

    Raises:
        InvalidInput: none is.
        Unauthorized: there is no key for it.
        ServerUnavailable: it is on this machine, nothing listens there, and no other patience was asked for.
    """
    from steep.client.client import Client

    with Client(patience_seconds=PATIENCE_SECONDS if patience_seconds is None else patience_seconds) as client:
        if patience_seconds is None:
            require_listening(client.server)
        yield client


def require_listening(server: str) -> None:
    """Look whether anything listens at an address of this machine: while nothing does, asking again is only waiting.

    Raises:
        ServerUnavailable: nothing does. Of a server elsewhere, its first answer tells.
    """
    import socket
    from urllib.parse import urlsplit

    from steep.cli.service.sending import is_here
    from steep.client.config import START
    from steep.spec.errors import ServerUnavailable

    if not is_here(server):
        return
    address = urlsplit(server)
    try:
        socket.create_connection((address.hostname, address.port or PORTS[address.scheme]), PATIENCE_SECONDS).close()
    except ConnectionRefusedError as error:
        raise ServerUnavailable(f"the server cannot be reached ({error})", where=server, cure=START) from error
    except OSError:
        return  # whatever else there is, the first request tells it


def is_job(where: str) -> bool:
    """Whether a job of the service is meant and not a run directory: it looks like a job's id, and no such directory is there."""
    return _JOB_ID.fullmatch(where) is not None and not Path(where).is_dir()


def job_meant(where: str) -> str | None:
    """The job that is meant where a run directory could be, by its id or its name; None: none is.

    A name is looked up only where there is no such path, and where a server is known.

    Raises:
        InvalidInput: several jobs have that name, or the server that is known could not be asked.
    """
    from steep.client.config import START
    from steep.spec.errors import InvalidInput, NotFound, ServerUnavailable, SteepError

    if is_job(where):
        return where
    if Path(where).exists() or _NAME.fullmatch(where) is None:
        return None
    try:
        with connected(patience_seconds=0.0) as client:
            return find_job(client, where)
    except NotFound:
        return None
    except ServerUnavailable as error:
        raise InvalidInput(
            f"is not a run directory, and {error.where} could not be asked for a job of that name: {error.what}",
            where=where,
            cure=f"Give a run directory, or mend that: {START}",
        ) from error
    except SteepError as error:
        if "have this name" in error.what:
            raise
        return None  # no server is known, or no key for it


def find_job(client: Client, job: str) -> str:
    """The id of a job, given by its id or by its name.

    Raises:
        NotFound: no job has that name.
        InvalidInput: several have it.
    """
    from steep.spec.errors import InvalidInput, NotFound

    if _JOB_ID.fullmatch(job):
        return job
    named = [one.view for one in client.jobs.list(name=job) if one.view.name == job]
    if not named:
        raise NotFound("there is no such job", where=job, cure="`steep jobs list --all` shows them all.")
    if len(named) > 1:
        ids = ", ".join(f"{view.id} ({view.standing.state})" for view in named)
        raise InvalidInput(f"{len(named)} jobs have this name", where=job, cure=f"Say which by its id: {ids}.")
    return named[0].id
