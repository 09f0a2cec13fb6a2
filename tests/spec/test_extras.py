"""The sentence that says how to install an extra: its command works, whichever way this program was installed."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from steep.spec import extras
from steep.spec.extras import install_extra


@pytest.fixture
def checkout(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, in a path with a space, that this process seems to be installed in; its Python only says what it is told."""
    place = tmp_path / "a checkout"
    (place / "scripts").mkdir(parents=True)
    (place / "scripts" / "install.sh").write_text((repository / "scripts" / "install.sh").read_text())
    for name in ("python", "uv"):
        program = place / ".venv" / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "{name} $@" >> told\n')
        program.chmod(0o755)
    monkeypatch.setattr(sys, "prefix", str(place / ".venv"))
    return place


def test_in_a_checkout_its_script_installs(checkout: Path) -> None:
    command = install_extra("tasks", checkout=checkout).removeprefix("Run: ")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True, cwd="/")
    assert (checkout / "told").read_text().splitlines()[-1].endswith("-c constraints.txt -e .[tasks]")


def test_elsewhere_this_environments_own_installer_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(install_extra("lora", checkout=tmp_path).removeprefix("Run: "))
    assert words == [sys.executable, "-m", "pip", "install", "steep[lora]"]
    monkeypatch.setattr(extras, "find_spec", lambda name: None)  # as in an environment that uv made
    words = shlex.split(install_extra("lora", checkout=tmp_path).removeprefix("Run: "))
    assert words == ["uv", "pip", "install", "--python", sys.executable, "steep[lora]"]


def test_every_extra_that_is_told_of_exists(repository: Path) -> None:
    import re

    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sources = "".join(path.read_text(encoding="utf-8") for path in (repository / "src").rglob("*.py"))
    told = set(re.findall(r'install_extra\("([a-z0-9-]+)"\)', sources))
    assert {"lora", "tasks"} <= told <= set(project["optional-dependencies"])
    assert "pip install 'steep[" not in sources.replace("'steep[{extra}]'", "")
