"""The first key of a server. Nothing is open without one, so whoever starts a server gets an admin's, in a file of his own.

It lies in `DATA/admin.toml`, readable by its owner alone, for as long as it opens the server. `steep up` has it written to the
user's config too, unless that names another server.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from steep.client.config import Settings, config_file, read_config, write_config
from steep.server.service import Service
from steep.spec.api.keys import KeyRequest
from steep.spec.errors import InvalidInput

_LOOPBACK = dict.fromkeys(("127.0.0.1", "::1", "localhost"), "localhost")


def ensure_key(service: Service, *, for_user: bool) -> Path:
    """See to it that whoever started the server has a key. Returns the file that it lies in.

    Args:
        service: which is to be opened.
        for_user: write it to the user's config too.

    Raises:
        InvalidInput: a file cannot be written.
    """
    own = service.settings.data / "admin.toml"
    settings = _good(own, service) or _new(service)
    _write(own, settings)
    if not for_user:
        return own
    config = config_file()
    known = _read(config)
    opens = None if known is None else _opens(known, service)
    if known is not None and known.server != settings.server:
        if opens is None or not _same_machine(known.server, settings.server):
            return own
        _write(config, opens)  # this server, which listened at another port before
    elif opens is None:
        _write(config, settings)
    return config


def _same_machine(one: str, other: str) -> bool:
    """Whether two addresses differ in no more than the port; all that this machine calls itself are one."""
    hosts = {_LOOPBACK.get(host or "", host) for host in (urlsplit(one).hostname, urlsplit(other).hostname)}
    return len(hosts) == 1


def _good(path: Path, service: Service) -> Settings | None:
    """The key in a file, if it is an admin's and opens the service; with the address that this has now."""
    known = _read(path)
    return None if known is None else _opens(known, service)


def _opens(known: Settings, service: Service) -> Settings | None:
    key = service.store.keys.authenticate(known.key, service.now())
    if key is None or key.role != "admin" or key.project is not None:
        return None
    return Settings(service.settings.address, known.key)


def _new(service: Service) -> Settings:
    made = service.store.keys.create(KeyRequest(name="first key of this server", role="admin"), service.now())
    return Settings(service.settings.address, made.secret)


def _read(path: Path) -> Settings | None:
    try:
        return read_config(path)
    except InvalidInput:
        return None  # what cannot be used is written anew


def _write(path: Path, settings: Settings) -> None:
    if _read(path) == settings:
        return
    try:
        write_config(path, settings)
    except OSError as error:
        raise InvalidInput(
            f"the key cannot be written ({error.strerror})", where=str(path), cure="Mend the rights there."
        ) from error
