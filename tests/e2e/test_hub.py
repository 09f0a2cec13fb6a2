"""A job whose base is a name of the hub, out of the hub's cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.artifacts.hubs import COMMIT, HubCache, hub
from tests.e2e.conftest import Steep, reports

__all__ = ["hub"]

MakeJob = Callable[..., Path]
pytestmark = pytest.mark.slow
SMALL = {"training__budget": "4 steps", "evaluation__interpolate": [], "checkpoints__every": "2 steps"}


@pytest.fixture
def base(place: Path, hub: HubCache, environment: dict[str, str], tmp_path: Path) -> Path:
    """`org/tiny`: an instruction-tuned model with a licence."""
    base = tmp_path / "tiny"
    shutil.copytree(place / "base", base)
    (base / "chat_template.jinja").write_text("{{ messages }}")
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    hub.put("org/tiny", base)
    environment |= {"HF_HUB_CACHE": str(hub.place), "HF_HUB_OFFLINE": "1"}
    return base


def test_what_a_hub_base_says_of_itself_is_read(base: Path, steep: Steep, make_job: MakeJob, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = steep("run", make_job(base="org/tiny", **SMALL), "--dir", run)
    assert done.returncode == 0, done.stdout + done.stderr + (run / "worker.log").read_text()
    assert "instruct_base" in {report.get("code") for report in reports(run)}
    assert "apache-2.0" in (run / "export" / "README.md").read_text(encoding="utf-8")


def test_a_run_goes_on_with_the_base_that_it_began_with(
    base: Path, hub: HubCache, steep: Steep, make_job: MakeJob, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert steep("run", make_job(base="org/tiny", **SMALL), "--dir", run).returncode == 0
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "config.json").write_text("{}")  # no model that anything could be made of
    hub.put("org/tiny", tmp_path / "next", commit=COMMIT[::-1])
    done = steep("run", make_job(base="org/tiny", **SMALL, seed=18), "--dir", run)
    assert done.returncode == 0, done.stdout + done.stderr + (run / "worker.log").read_text()
