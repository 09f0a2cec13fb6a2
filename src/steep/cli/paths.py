"""Where things lie by default, and how paths are shown."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from steep.spec.errors import InvalidInput


def shown(path: Path) -> str:
    """Relative to where the user stands when it lies below, absolute otherwise."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) and path != here else str(path)


def steep_command() -> str:
    """How to call Steep from where the user stands: by its name where that is found, else by its path."""
    begun = Path(sys.argv[0])
    if begun.name != "steep" or shutil.which("steep") is not None:
        return "steep"
    return shlex.quote(shown(begun.absolute()))


def default_run(name: str) -> Path:
    """The run directory of a job for which none was given."""
    return Path("runs") / name


def default_data() -> Path:
    """The data directory of a server for which none was given: `steep` in the user's data directory."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "steep"


def require_directory(place: Path, option: str) -> None:
    """Look whether a directory is at a place, or can be made there, before something is done that takes a while.

    Raises:
        InvalidInput: a file is there or above it, or nothing may be written there.
    """
    above = place.absolute()
    try:
        while not above.exists():
            above = above.parent
        why = f"{above} is a file" if not above.is_dir() else "Permission denied" if not _may_write(above) else None
    except OSError as error:
        why = error.strerror
    if why is not None:
        raise InvalidInput(
            f"cannot be used as a directory ({why})", where=str(place), cure=f"Choose another {option}, or mend that."
        )


def _may_write(directory: Path) -> bool:
    return os.access(directory, os.W_OK | os.X_OK)
