"""Bytes that rot between two commands: what they belong to is named and passed over, and the run comes to its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.conftest import Steep, reports, results

MakeJob = Callable[..., Path]
pytestmark = pytest.mark.slow


def damage(run: Path, step: int) -> None:
    """Turn one bit of a checkpoint's weights over."""
    file = run / "checkpoints" / f"step-{step:08d}" / "weights-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def test_damaged_checkpoints_give_way_to_the_next_best(steep: Steep, make_job: MakeJob, tmp_path: Path) -> None:
    job, run = make_job(checkpoints__keep_last=9), tmp_path / "run"
    done = steep("run", job, "--dir", run, "--until", "train")
    assert done.returncode == 0, done.stdout + done.stderr
    damage(run, 24)  # the best in training: it is not mixed with the base, nor selected
    done = steep("run", job, "--dir", run, "--until", "evaluate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [report["level"] for report in reports(run) if report.get("code") == "damaged_checkpoint"] == ["warning"]
    steps = sorted(int(path.stem[-8:]) for path in (run / "evaluation").glob("checkpoint-*"))
    mixed = [path.name for path in (run / "evaluation").glob("interpolation-*")]
    assert mixed == [f"interpolation-{steps[-2]:08d}-alpha-0.5.json"]

    done = steep("run", job, "--dir", run, "--until", "select")
    assert done.returncode == 0, done.stdout + done.stderr
    damage(run, steps[-2])  # selected instead, as it will turn out
    done = steep("run", job, "--dir", run)
    assert done.returncode == 0, done.stdout + done.stderr
    after = results(run)
    (selected,) = [row for row in after["scores"] if row["selected"]]
    left = [row for row in after["scores"] if row["step"] < steps[-2]]
    assert selected["gain"] == max(row["gain"] for row in left) > 0
    assert after["selection_reason"].startswith(f"step {selected['step']}")
    for step, warning in zip((24, steps[-2]), after["warnings"], strict=True):
        assert f"checkpoint {step} is damaged" in warning
        assert f"checkpoint {step} is damaged" in " ".join(done.stdout.split())
    assert json.loads((run / "stages" / "export.json").read_text())["outputs"]["row"]["step"] == selected["step"]
    heard = len(reports(run))
    assert steep("run", job, "--dir", run).returncode == 0
    assert {report["event"] for report in reports(run)[heard:] if report["kind"] == "stage"} == {"skipped"}
