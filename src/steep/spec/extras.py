"""How to install what few need: one sentence that works where this very program is installed."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]  # where the package is installed from a checkout, editable


def install_extra(extra: str, *, checkout: Path = CHECKOUT) -> str:
    """The command that adds an extra, such as `tasks`, as a cure for an error.

    In a checkout with its own `.venv` it is the checkout's script, which keeps to the pinned versions; elsewhere it is the
    installer of this environment, whichever other `pip` comes first on the user's path.
    """
    if (checkout / "scripts" / "install.sh").exists() and Path(sys.prefix).resolve() == (checkout / ".venv").resolve():
        return f"Run: cd {shlex.quote(str(checkout))} && sh scripts/install.sh '.[{extra}]'"
    python = shlex.quote(sys.executable)
    installer = f"{python} -m pip install" if find_spec("pip") is not None else f"uv pip install --python {python}"
    return f"Run: {installer} 'steep[{extra}]'"
