"""The run directory: one process at a time, records that are whole, damage that is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.artifacts.conftest import spec_of

from steep.artifacts.rundir import RunDirectory
from steep.spec.errors import EXIT_INVALID, DamagedArtifact, InvalidInput, RunBusy
from steep.spec.results import Results, Score
from steep.spec.stages import Stage

HOLDER = """
import sys, time
from steep.artifacts.rundir import RunDirectory
with RunDirectory(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_place_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is not a run directory") as refused:
        RunDirectory.existing(tmp_path)
    assert "steep run" in str(refused.value.cure)
    RunDirectory(tmp_path).write_spec(spec_of())
    assert RunDirectory.existing(str(tmp_path)).path == tmp_path


def test_making_one_touches_nothing(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    assert (run.completion(Stage.TRAIN), run.results()) == (None, None)
    assert not run.path.exists()


def test_a_relative_path_means_the_same_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunDirectory("run")
    monkeypatch.chdir("/")
    assert run.checkpoints == tmp_path / "run" / "checkpoints"


def test_the_spec_comes_back_as_it_was_written(tmp_path: Path) -> None:
    spec = spec_of(
        training={"budget": "2 epochs", "learning_rate": 1e-5, "method": {"lora": {"rank": 8}}, "schedule": "cosine"},
        replay={"source": "/novels", "share": "10%"},
        checkpoints={"every": "10 min", "keep_last": 3, "store": "s3://bucket/prefix"},
        evaluation={"general": ["/general"], "forgetting_budget": 0.0, "interpolate": []},
        deadline="2 h",
    )
    run = RunDirectory(tmp_path / "run")
    run.write_spec(spec)
    assert run.spec() == spec


def test_a_stage_is_complete_for_its_inputs(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.complete(Stage.PREPARE, "fingerprint", {"tokens": 7})
    assert run.completion(Stage.PREPARE) == {"stage": "prepare", "fingerprint": "fingerprint", "outputs": {"tokens": 7}}
    assert run.completion(Stage.ASSESS) is None
    run.complete(Stage.PREPARE, "another", {})
    assert run.completion(Stage.PREPARE) == {"stage": "prepare", "fingerprint": "another", "outputs": {}}


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"stage": "prepare"}', "\x00\x00"])
def test_a_damaged_completion_is_named_with_its_cure(tmp_path: Path, content: str) -> None:
    run = RunDirectory(tmp_path / "run")
    run.complete(Stage.PREPARE, "fingerprint", {})
    (run.path / "stages" / "prepare.json").write_text(content)
    with pytest.raises(DamagedArtifact, match=r"prepare\.json") as damaged:
        run.completion(Stage.PREPARE)
    assert "the stage prepare runs again" in str(damaged.value.cure)


def test_results_come_back_and_damaged_ones_are_named(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    base = Score(kind="base", step=0, tokens_seen=0, domain_bpb=1.5, general_bpb=1.2, gain=0.0, forgetting=0.0)
    results = Results(name="n", base="/base", forgetting_budget=0.02, scores=(base,))
    run.results_file.write_text(results.model_dump_json())
    assert run.results() == results
    run.results_file.write_text(json.dumps({"name": "n"}))
    with pytest.raises(DamagedArtifact, match=r"results\.json"):
        run.results()


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "a run")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunBusy, match=f"process {holder.pid} is working here") as busy, run.lock():
            pytest.fail("two hold it")
        assert busy.value.exit_code == EXIT_INVALID
        os.kill(holder.pid, signal.SIGKILL)  # no chance to clean up
        holder.wait(10)
        with run.lock():
            assert (run.path / "lock").read_text() == str(os.getpid())
    finally:
        holder.kill()
        holder.stdout.close()
        holder.wait(10)


def test_the_lock_holds_within_a_process_too_and_ends_with_its_block(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.lock(), pytest.raises(RunBusy), RunDirectory(tmp_path).lock():
        pytest.fail("two hold it")
    with pytest.raises(ValueError, match="work"), run.lock():
        raise ValueError("work")
    with run.lock():
        pass


def test_a_file_where_the_run_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    for place in (tmp_path / "notes", tmp_path / "notes" / "below"):
        with pytest.raises(InvalidInput, match="cannot be used as a run directory"), RunDirectory(place).lock():
            pass
    assert (tmp_path / "notes").read_text() == "mine"
