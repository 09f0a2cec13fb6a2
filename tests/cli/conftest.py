"""Commands as users call them: in a process of their own, against a stand-in for the engine where one is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

STANDIN = Path(__file__).with_name("standin.py")
START = "import sys; from steep.cli import launch, main; launch.WORKER = (sys.executable, sys.argv.pop(1)); main.main()"

Steep = Callable[..., subprocess.CompletedProcess[str]]


def command(*arguments: object) -> list[str]:
    """`steep ARGUMENTS`, with the stand-in as its worker."""
    return [sys.executable, "-c", START, str(STANDIN), *map(str, arguments)]


@pytest.fixture
def steep(tmp_path: Path) -> Steep:
    """Call `steep` and wait; `standin=` says how the worker ends."""

    def call(*arguments: object, standin: str = "done") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "STANDIN": standin, "XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "120"}
        return subprocess.run(
            command(*arguments), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    return call


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A small job file."""
    (tmp_path / "text").mkdir()
    path = tmp_path / "job.yaml"
    path.write_text("name: job\nbase: org/model\ncorpus: {sources: [text]}\n", encoding="utf-8")
    return path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Call a command in this process, which is quicker; returns exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("STEEP_DEBUG", "")  # `--debug` sets it; it must not outlive the test

    def run(*arguments: object) -> tuple[int, str, str]:
        from steep.cli.main import main

        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run
