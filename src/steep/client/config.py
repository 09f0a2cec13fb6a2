"""Which server, and with which key: arguments, else STEEP_SERVER and STEEP_KEY, else the user's config file.

`steep up` and `steep login` write the file, which nobody else may read: `~/.config/steep/config.toml` (or below
XDG_CONFIG_HOME), with `server` and `key`.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from steep.spec.errors import InvalidInput, Unauthorized

START = "`steep up` starts one on this machine; `steep login ADDRESS` remembers another."
"""What to do where no server is known, or the one that is cannot be reached."""
DEFAULT_PORT = 8470


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a server is, and the key for it."""

    server: str
    key: str = field(repr=False)


def config_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the user's config file lies, or would."""
    base = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME") or Path.home()) / ".config"
    return Path(base) / "steep" / "config.toml"


def read_config(path: Path) -> Settings | None:
    """What the config file says, or nothing where there is none.

    Raises:
        InvalidInput: it cannot be read, or does not hold a server and a key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return Settings(values["server"], values["key"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise InvalidInput(
            f"the config file cannot be used: {why}", where=str(path), cure="`steep login` writes it anew."
        ) from error


def write_config(path: Path, settings: Settings) -> None:
    """Write the config file, whole or not at all, so that only its owner may read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staging = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    values = {"server": settings.server, "key": settings.key}
    text = "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())
    staging.unlink(missing_ok=True)
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        staging.replace(path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise


def find_settings(
    server: str | None = None, key: str | None = None, environment: Mapping[str, str] = os.environ
) -> Settings:
    """The server to speak to and the key to show it.

    A key of the config file is shown to the server of the config file and to no other.

    Raises:
        InvalidInput: no server is known, or its address is none.
        Unauthorized: no key for it is known.
    """
    config = read_config(config_file(environment))
    server = server or _named_server(config, environment)
    if server is None:
        raise InvalidInput("no server is known here", cure=START)
    server = _checked(server)
    key = key or environment.get("STEEP_KEY")
    if key is None and config is not None and _checked(config.server) == server:
        key = config.key
    if key is None:
        raise Unauthorized(
            "no key is known for this server", where=server, cure="`steep login`, or give it in STEEP_KEY."
        )
    return Settings(server, key)


def knows_server(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether some server is known here, be it there or not.

    Raises:
        InvalidInput: the config file is damaged.
    """
    return _named_server(read_config(config_file(environment)), environment) is not None


def _named_server(config: Settings | None, environment: Mapping[str, str]) -> str | None:
    return environment.get("STEEP_SERVER") or (config.server if config else None)


def _checked(server: str) -> str:
    try:
        parts = urlsplit(server)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        known = False
    if not known:
        raise InvalidInput(
            f"{server!r} is not the address of a server",
            where="server",
            cure=f"Write it like http://localhost:{DEFAULT_PORT}.",
        )
    return server.rstrip("/")
