"""`steep run`: what it shows, how it ends, and what happens when it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
from tests.cli.conftest import command

from steep.artifacts.manifest import step_name
from steep.artifacts.rundir import RunDirectory
from steep.cli.launch import outcome_error
from steep.spec.errors import RunBusy


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def start(tmp_path, *arguments, standin):
    environment = {**os.environ, "STANDIN": standin, "STANDIN_GO": str(tmp_path / "go")}
    return subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_a_whole_run(steep, job, tmp_path):
    done = steep("run", job)
    assert done.returncode == 0, done.stdout + done.stderr
    out = done.stdout
    assert "prepare: completed" in out
    assert "step 20/20" in out
    assert "warning: the loss leapt" in out
    assert "gain +0.5000" in out
    assert "forgetting +0.0300" in out  # the worst of two hold-outs, not their mean
    assert "Selected: step 20: the most gain" in out
    assert "a function" in out
    assert "steep checkpoints list runs/job" in out
    assert done.stderr == ""
    assert (tmp_path / "runs" / "job" / "job.yaml").exists()


def test_a_path_that_is_not_there_is_told_before_anything_is_made(steep, job, tmp_path):
    (tmp_path / "text").rmdir()
    done = steep("run", job)
    assert done.returncode == 2
    assert f"corpus.sources.0: {tmp_path / 'text'}" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_run_that_is_prepared_needs_its_text_no_more(steep, job, tmp_path):
    assert steep("run", job, "--until", "assess").returncode == 0
    (tmp_path / "text").rmdir()
    assert steep("run", job).returncode == 0


def test_json_is_the_whole_of_stdout(steep, job):
    done = steep("run", job, "--dir", "here", "--json")
    answer = json.loads(done.stdout)
    assert answer["results"]["scores"][1]["selected"] is True
    assert set(answer["stages"].values()) == {True}
    assert "train: step" in done.stderr


def test_until_stops_early(steep, job):
    done = steep("run", job, "--until", "assess", "--json")
    stages = json.loads(done.stdout)["stages"]
    assert [stage for stage, complete in stages.items() if complete] == ["prepare", "assess"]


@pytest.mark.parametrize(
    ("standin", "code", "told"),
    [
        ("invalid", 2, "Error: /data/x: has no text\nCheck corpus.sources."),
        ("kill", 1, "the worker was killed by SIGKILL"),
        ("crash", 1, "the worker ended with code 1 and said nothing"),
    ],
)
def test_how_it_fails(steep, job, standin, code, told):
    done = steep("run", job, standin=standin)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_debug_shows_the_workers_traceback(steep, job):
    done = steep("run", job, "--debug", standin="crash")
    assert "RuntimeError: a bug" in done.stdout


def test_a_spec_error_names_the_field(steep, job):
    job.write_text(job.read_text() + "traning: {}\n")
    done = steep("run", job)
    assert done.returncode == 2
    assert "traning: there is no such key; did you mean 'training'?" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_and_the_run_stops_in_good_order(job, tmp_path, number):
    process = start(tmp_path, "run", job, standin="wait")
    reports = tmp_path / "runs" / "job" / "reports.jsonl"
    wait_for(lambda: reports.exists() and '"step":3' in reports.read_text())
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 3
    assert f"{number.name}: what is done is kept" in out
    assert "Stopped: stopped at step 3\nRun the same command to go on." in out


def test_a_second_process_is_refused(steep, job, tmp_path):
    first = start(tmp_path, "run", job, standin="wait")
    reports = tmp_path / "runs" / "job" / "reports.jsonl"
    wait_for(lambda: reports.exists() and '"step":3' in reports.read_text())
    second = steep("run", job)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=20)
    assert second.returncode == 2
    assert "is working here" in second.stderr


def test_when_the_command_is_killed_the_worker_goes_on_and_the_same_command_watches_it(steep, job, tmp_path):
    first = start(tmp_path, "run", job, standin="slow")
    run = RunDirectory(tmp_path / "runs" / "job")
    wait_for(lambda: run.reports_file.exists() and '"step":3' in run.reports_file.read_text())
    first.kill()
    first.communicate(timeout=20)
    second = start(tmp_path, "run", job, standin="done")
    told = [second.stdout.readline() for _ in range(2)]
    assert "what started it is gone; watching it" in told[1]
    (tmp_path / "go").touch()
    out, _ = second.communicate(timeout=20)
    assert second.returncode == 0, out
    assert "Selected: step 20:" in out
    assert run.reports_file.read_text().count('"step":20,"total_steps"') == 1  # it was trained once


def test_detach_and_watch(steep, job, tmp_path):
    detached = steep("run", job, "--detach")
    assert detached.returncode == 0
    assert "steep watch runs/job" in detached.stderr
    wait_for(lambda: (tmp_path / "runs/job/stages/export.json").exists())
    watched = steep("watch", "runs/job")
    assert watched.returncode == 0
    assert "step 20/20" in watched.stdout
    assert "Selected: step 20:" in watched.stdout


def test_detach_answers_programs_too(steep, job, tmp_path):
    answer = json.loads(steep("run", job, "--detach", "--json").stdout)
    assert answer["worker"] > 0
    wait_for(lambda: (tmp_path / answer["run"] / "stages/export.json").exists())


def test_it_says_what_changed_since_the_last_time(steep, job):
    steep("run", job)
    again = steep("run", job, "--set", "evaluation.prompts=[A list is]", "--set", "evaluation.forgetting_budget=0.1")
    assert "evaluation.forgetting_budget: 0.02 -> 0.1" in again.stdout
    assert "Stages that run again: select, export." in again.stdout
    assert "changed" not in steep("run", job, "--set", "evaluation.prompts=[A list is]", "--until", "prepare").stderr


def test_status_and_plot_of_a_run_that_was_killed(steep, call, job, tmp_path):
    steep("run", job)  # whole; then something else is trained, and what is complete after it no longer counts
    run = tmp_path / "runs" / "job"
    (run / "checkpoints" / step_name(20)).mkdir(parents=True)
    again = steep("run", job, "--set", "training.budget=9 steps", standin="kill")
    assert "what was trained so far is set aside in the run, and not lost" in again.stdout
    facts = json.loads(call("status", run, "--json")[1])
    assert facts["stages"] == {
        "prepare": "complete", "assess": "complete", "train": "stopped", "evaluate": "waiting", "select": "waiting",
        "export": "waiting",
    }  # fmt: skip
    assert (facts["step"], facts["total_steps"], facts["working"]) == (3, 20, False)
    assert "train: stopped" in call("status", run)[1]
    code, out, _ = call("plot", run, "--json")
    assert code == 0
    assert str(run / "charts" / "training.png") in json.loads(out)
    assert (run / "charts" / "training.svg").stat().st_size > 1000


@pytest.mark.parametrize("verb", ["status", "watch", "plot", "checkpoints list"])
def test_what_is_no_run_is_refused(call, tmp_path, verb):
    code, _, err = call(*verb.split(), tmp_path / "nothing")
    assert code == 2
    assert "is not a run directory" in err


def test_a_worker_that_another_forestalled_left_no_word_and_is_explained(tmp_path):
    run = RunDirectory(tmp_path / "run")
    with run.lock():
        error = outcome_error(run, 2)
    assert isinstance(error, RunBusy)
    assert "working here" in str(error)
    assert "said nothing" in str(outcome_error(run, 2))
