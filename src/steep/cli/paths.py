"""Where things lie by default, and how paths are shown."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


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
