"""What `steep doctor` looks at: each check says how something is, and what to do where it is not well."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from steep.cli.service.process import absent_packages
from steep.spec.errors import SteepError
from steep.spec.extras import CHECKOUT, install_extra
from steep.spec.units import format_bytes

Level = Literal["ok", "warning", "problem"]

LITTLE_BYTES = 20_000_000_000
TOO_LITTLE_BYTES = 2_000_000_000
SKEW_SECONDS = 30.0
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)")
_REQUIREMENT = re.compile(r"^[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer.

    Args:
        about: what was looked at.
        level: how it is.
        text: the same in words.
        cure: what to do, where it is not well.
    """

    about: str
    level: Level
    text: str
    cure: str = ""


def findings(data: Path) -> Iterator[Finding]:
    """Look at everything, in order.

    Args:
        data: the data directory of a server on this machine, or where it would be.
    """
    yield _python()
    yield from _packages(CHECKOUT / "constraints.txt")
    yield _torch()
    yield _gpus()
    yield _disk(data)
    yield _data_directory(data)
    yield _server_extra()
    yield from _server()


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"{version} at {sys.prefix}")


# ------------------------------------------------------------------------------------------------------------ packages


def _packages(constraints: Path) -> Iterator[Finding]:
    missing = sorted(name for name in _required() if _installed(name) is None)
    if missing:
        listed = ", ".join(missing)
        yield Finding("packages", "problem", f"missing: {listed}", "Install Steep again: sh scripts/install.sh .")
        return
    if not constraints.exists():
        yield Finding("packages", "ok", f"all {len(_required())} that are needed are installed")
        return
    pins = [found.groups() for line in constraints.read_text().splitlines() if (found := _PIN.match(line))]
    other = [f"{name} {has} (tested: {pin})" for name, pin in pins if (has := _installed(name)) not in (None, pin)]
    if other:
        text = f"{len(other)} of {len(pins)} have another version than was tested: {', '.join(sorted(other))}"
        yield Finding("packages", "warning", text, "Install the tested ones: sh scripts/install.sh .")
    else:
        yield Finding("packages", "ok", f"all have the tested versions of {constraints.name}")


def _required() -> list[str]:
    """Names of the distributions that Steep always needs."""
    lines = metadata.requires("steep") or []
    return [found.group() for line in lines if "extra ==" not in line and (found := _REQUIREMENT.match(line))]


def _installed(name: str) -> str | None:
    """The version without its local part, such as `+cpu`."""
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def _server_extra() -> Finding:
    if absent := absent_packages():
        cure = f"Only to run a server here. {install_extra('server')}"
        return Finding("server extra", "warning", f"not installed ({', '.join(absent)})", cure)
    return Finding("server extra", "ok", "installed")


# ------------------------------------------------------------------------------------------------------------- devices


def _torch() -> Finding:
    """What torch was built for, read from its files: importing it takes seconds."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return Finding("torch", "problem", "not installed", "Install Steep again: sh scripts/install.sh .")
    version = metadata.version("torch")
    cuda = _cuda_of(Path(spec.origin).with_name("version.py"))
    driver = Path("/proc/driver/nvidia/version").exists()
    if driver and cuda is None:
        cure = "Install torch built for CUDA: see docs/how-to/gpu.md."
        return Finding("torch", "warning", f"{version} is built for the processor, and there is an NVIDIA driver", cure)
    return Finding("torch", "ok", f"{version}, built for {'the processor' if cuda is None else f'CUDA {cuda}'}")


def _cuda_of(version_file: Path) -> str | None:
    try:
        found = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", version_file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return found.group(1) if found else None


def _gpus() -> Finding:
    from steep.compute.local.nvml import open_nvml

    cure = "Look at what `nvidia-smi` says, and mend the driver."
    try:
        library = open_nvml()
        readings = [] if library is None else library.readings()
    except SteepError as error:
        return Finding("GPUs", "problem", str(error), cure)
    faulty = [f"{one.model}: {one.fault}" for one in readings if one.fault]
    if faulty:
        return Finding("GPUs", "problem", "; ".join(faulty), cure)
    if not readings:
        return Finding("GPUs", "ok", f"none; jobs use the processor ({os.cpu_count()} cores)")
    return Finding("GPUs", "ok", ", ".join(f"{one.model} ({format_bytes(one.memory_bytes)})" for one in readings))


# ---------------------------------------------------------------------------------------------------------------- disk


def _disk(data: Path) -> Finding:
    from steep.artifacts.space import free_bytes

    free = free_bytes(data)
    text = f"{format_bytes(free)} free where {data} lies"
    cure = "Free some, or choose another place with --data. A checkpoint of a model takes 12 bytes a parameter that is trained."
    if free < TOO_LITTLE_BYTES:
        return Finding("disk", "problem", text, cure)
    return Finding("disk", "warning", text, cure) if free < LITTLE_BYTES else Finding("disk", "ok", text)


def _data_directory(data: Path) -> Finding:
    if not data.exists():
        above = next(parent for parent in data.absolute().parents if parent.exists())
        if os.access(above, os.W_OK):
            return Finding("data directory", "ok", f"{data} is not there yet; `steep up` makes it")
        return Finding("data directory", "problem", f"{data} cannot be made", f"Mend the rights of {above}.")
    if not data.is_dir() or not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        return Finding(
            "data directory", "problem", f"{data} may not be written", f"Mend its rights: chown, chmod 700 {data}."
        )
    open_to_others = [path for path in (data, data / "secrets.key") if path.exists() and path.stat().st_mode & 0o077]
    if open_to_others:
        mend = " && ".join(f"chmod {'700' if path.is_dir() else '600'} {path}" for path in open_to_others)
        listed = ", ".join(str(path) for path in open_to_others)
        return Finding("data directory", "warning", f"others on this machine may read {listed}", f"Run: {mend}")
    return Finding("data directory", "ok", str(data))


# -------------------------------------------------------------------------------------------------------------- server


def _server() -> Iterator[Finding]:
    from steep.client.config import START, config_file, find_settings, knows_server
    from steep.client.probe import probe
    from steep.spec.errors import Unauthorized

    try:
        config = config_file()
        if config.exists() and config.stat().st_mode & 0o077:
            yield Finding("key", "warning", f"others on this machine may read {config}", f"Run: chmod 600 {config}")
        if not knows_server():  # none is needed for `steep run`
            yield Finding("server", "ok", "no server is known here", START)
            return
        settings = find_settings()
    except Unauthorized as error:
        yield Finding("server", "warning", str(error), error.cure or "")
        return
    except SteepError as error:
        yield Finding("server", "problem", str(error.what), error.cure or "")
        return
    found = probe(settings.server)
    if found is None:
        yield Finding("server", "problem", f"{settings.server} cannot be reached", START)
        return
    if not found.ready:
        text = f"{settings.server} is there and not ready (it answers {found.status})"
        yield Finding("server", "problem", text, "Look into its log; its database may be away.")
        return
    yield _key(settings.server, settings.key)
    yield _clock(found.skew_seconds)


def _key(server: str, key: str) -> Finding:
    from steep.client.client import Client

    try:
        with Client(server, key, patience_seconds=0.0) as client:
            view = client.status()
    except SteepError as error:
        return Finding("server", "problem", f"{server}: {error.what}", error.cure or "")
    return Finding("server", "ok", f"Steep {view.version} at {server}, and the key is good")


def _clock(skew_seconds: float | None) -> Finding:
    if skew_seconds is None:
        return Finding("clock", "ok", "the server does not tell its time")
    text = f"the server's is {abs(skew_seconds):.0f} s {'ahead' if skew_seconds > 0 else 'behind'}"
    if abs(skew_seconds) > SKEW_SECONDS:
        return Finding("clock", "warning", text, "Let both machines keep their time by NTP; times shown here are off.")
    return Finding("clock", "ok", text if abs(skew_seconds) > 2 else "goes as the server's")
