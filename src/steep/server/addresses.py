"""Whether a URL that a job names leads to public addresses alone, before the job is taken."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from steep.corpus.addresses import is_public
from steep.spec.errors import InvalidSpec


def require_public(url: str, field: str, *, private_too: bool, cure: str) -> None:
    """Refuse a URL that leads to an address which not everybody reaches, such as one of the server's own network.

    Args:
        url: which a job names.
        field: where it stands in the spec.
        private_too: other addresses are allowed; then only its form is looked at.
        cure: what to do about an address that is not public.

    Raises:
        InvalidSpec: it does, or it is no URL, has a password in it, or names a host that nobody knows.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidSpec(f"is no URL ({error})", where=field) from error
    if not host:
        raise InvalidSpec("is no URL: it names no host", where=field)
    if parts.username or parts.password:
        raise InvalidSpec(
            "has a password in it, which would be seen by many", where=field, cure="Use a URL that needs none."
        )
    if private_too:
        return
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise InvalidSpec(f"{host} is not known here ({error})", where=field, cure="Check the URL.") from error
    for address in sorted(found):
        if not is_public(address):
            raise InvalidSpec(f"{host} is at {address}, which is no public address", where=field, cure=cure)
