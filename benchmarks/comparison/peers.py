"""The peers' own environment, `.venv-peers`: made once for each content of `peers.txt`, so that nothing of theirs is in Steep's."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
ENVIRONMENT = BENCHMARKS.parent / ".venv-peers"
PYTHON = ENVIRONMENT / "bin" / "python"


def make_environment(requirements: str = "peers.txt") -> Path:
    """The interpreter of an environment that holds exactly what a file of `benchmarks/` names."""
    wanted = "".join(path.read_text() for path in sorted(BENCHMARKS.glob("peers*.txt")))
    stamp = ENVIRONMENT / f"installed-{hashlib.sha256((requirements + wanted).encode()).hexdigest()[:16]}"
    if not stamp.exists():
        print(
            f"Making {ENVIRONMENT.name} from benchmarks/{requirements}: a few minutes the first time.", file=sys.stderr
        )
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
        install = [str(PYTHON), "-m", "pip", "install", "-qq", "-r", str(BENCHMARKS / requirements)]
        subprocess.run(install, check=True)
        stamp.touch()
    return PYTHON


def compile_bytecode(interpreter: Path) -> None:
    """Compile every module of an environment that is not yet, as pip does and other installers do not.

    Else one side's start would contain the compiling of what it imports, and the other's would not.
    """
    libraries = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    found = subprocess.run([str(interpreter), "-c", libraries], capture_output=True, text=True, check=True)
    command = [str(interpreter), "-m", "compileall", "-qq", "-j", "0", found.stdout.strip(), str(BENCHMARKS)]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)  # some packages hold templates that do not compile
