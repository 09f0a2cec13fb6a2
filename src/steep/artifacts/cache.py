"""Where things lie that outlive a run and can always be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """`STEEP_CACHE`, by default `steep` in the user's cache directory."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steep"
    return Path(os.environ.get("STEEP_CACHE") or default)
