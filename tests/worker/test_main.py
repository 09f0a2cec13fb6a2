"""The worker as a program: what it was asked, how it ended, and what it leaves to read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.client.service import Service
from tests.worker.conftest import MakeContext
from tests.worker.ear import TOKEN, Ear, wait_for

from steep.artifacts.fence import Fence
from steep.artifacts.rundir import RunDirectory
from steep.spec.errors import EXIT_DONE, EXIT_FAILED, EXIT_INVALID, EXIT_STOPPED, InvalidCorpus, Stopped
from steep.spec.stages import Stage
from steep.worker import run as run_module
from steep.worker import sender as sender_module
from steep.worker.__main__ import main
from steep.worker.context import Context


def error_of(run: Path) -> Any:
    return json.loads((run / "error.json").read_text())


@pytest.fixture
def directory(make_context: MakeContext) -> Path:
    """A run directory that nothing was done in yet."""
    context = make_context()
    context.run.write_spec(context.spec)
    return context.run.path


def test_a_place_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == EXIT_INVALID
    assert "is not a run directory" in capsys.readouterr().err
    assert error_of(tmp_path)["exit_code"] == EXIT_INVALID


@pytest.mark.parametrize("job", ["the same", "no: job"])
def test_a_second_process_is_refused_and_writes_nothing(
    make_context: MakeContext, directory: Path, capsys: pytest.CaptureFixture[str], job: str
) -> None:
    """Whoever works there may have left a word of its own, and the job file may be about to change."""
    if job != "the same":
        (directory / "job.yaml").write_text(job)
    (directory / "error.json").write_text('{"what": "its own"}')
    with make_context().run.lock():
        before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        assert main([str(directory)]) == EXIT_INVALID
        assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    assert "is working here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidCorpus("holds no text", where="/text", cure="Give text."), EXIT_INVALID),
        (Stopped("stopped before train", cure="Run the same command to go on."), EXIT_STOPPED),
    ],
)
def test_errors_become_exit_codes_and_words(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: InvalidCorpus | Stopped,
    code: int,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(run_module, "work_on", fail)
    assert main([str(directory)]) == code
    words = {"what": error.what, "where": error.where, "cure": error.cure}
    assert error_of(directory) == {**words, "code": error.code, "exit_code": code}
    said = capsys.readouterr().err
    assert str(error) in said
    assert str(error.cure) in said
    assert "Traceback" not in said


def test_a_defect_is_told_too_and_the_next_success_forgets_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    with monkeypatch.context() as broken:
        broken.setattr(run_module, "work_on", fail)
        assert main([str(directory)]) == EXIT_FAILED
    assert error_of(directory)["what"] == "unexpected ZeroDivisionError: division by zero"
    assert "Traceback" in capsys.readouterr().err  # for the run's log
    asked: list[Stage | None] = []
    monkeypatch.setattr(run_module, "work_on", lambda run, until, **_: asked.append(until))
    assert main([str(directory), "--until", "assess"]) == EXIT_DONE
    assert main([str(directory)]) == EXIT_DONE
    assert asked == [Stage.ASSESS, None]
    assert not (directory / "error.json").exists()


def test_an_unknown_action_answers_with_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--action", "paint"]) == EXIT_INVALID
    answer = json.loads(capsys.readouterr().out)
    assert "no action 'paint'" in answer["error"]["what"]
    assert "score" in answer["error"]["cure"]


def test_nothing_asked_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "a run directory is needed" in capsys.readouterr().err


# ---- as an attempt of a service


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ear]:
    """A server, and an environment that says that this is its job's first attempt."""
    service = Service()
    monkeypatch.setenv("STEEP_SERVER", service.address)
    monkeypatch.setenv("STEEP_ATTEMPT", "job-0/1")
    monkeypatch.setenv("STEEP_ATTEMPT_TOKEN", TOKEN)
    monkeypatch.setattr(sender_module, "POLL_SECONDS", 0.01)
    yield Ear(service)
    service.stop()


def test_the_server_hears_of_an_attempt_before_its_work_begins_and_to_its_last_words(
    directory: Path, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(run: RunDirectory, **_: object) -> None:
        wait_for(lambda: len(ear.heard) > 0)
        (directory / "worker.err").write_text("the last words\n")
        raise InvalidCorpus("holds no text", where="/text", cure="Give text.")

    monkeypatch.setattr(run_module, "work_on", work)
    assert main([str(directory)]) == EXIT_INVALID
    assert ear.text == {"stderr": "the last words\n"}
    assert "STEEP_ATTEMPT_TOKEN" not in os.environ


def test_an_order_reaches_the_work(directory: Path, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(run: RunDirectory, asked: Callable[[], str | None], **_: object) -> None:
        ear.directive = "cancel"
        wait_for(lambda: asked() is not None)
        raise Stopped(f"stopped before train: {asked()}")

    monkeypatch.setattr(run_module, "work_on", work)
    assert main([str(directory)]) == EXIT_STOPPED
    assert error_of(directory)["what"] == "stopped before train: the service asks to end the job"


def test_an_attempt_that_comes_too_late_writes_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Fence(directory / "fence").move(3)
    before = sorted(path.name for path in directory.iterdir())
    monkeypatch.setenv("STEEP_ATTEMPT", "job-0/2")
    assert main([str(directory)]) == EXIT_STOPPED
    assert "attempt 3 works on the run now" in capsys.readouterr().err
    assert sorted(path.name for path in directory.iterdir()) == [*before, "lock"]


def test_an_attempt_shuts_earlier_ones_out_before_it_works(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heights: list[int] = []
    monkeypatch.setattr(run_module, "run_job", lambda context, until: heights.append(context.run.fence.height()))
    monkeypatch.setenv("STEEP_ATTEMPT", "job-0/2")
    assert main([str(directory)]) == EXIT_DONE
    assert heights == [2]


def test_an_attempt_that_is_shut_out_while_it_works_says_nothing_more(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(context: Context, until: Stage | None) -> None:
        context.notice("before", "the fence moved")
        Fence(directory / "fence").move(3)
        context.notice("after", "the fence moved")

    monkeypatch.setattr(run_module, "run_job", work)
    monkeypatch.setenv("STEEP_ATTEMPT", "job-0/2")
    assert main([str(directory)]) == EXIT_STOPPED
    assert "attempt 3 works on the run now" in capsys.readouterr().err
    assert [json.loads(line)["code"] for line in (directory / "reports.jsonl").read_text().splitlines()] == ["before"]
    assert not (directory / "error.json").exists()


def test_an_attempt_without_a_number_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEEP_ATTEMPT", "job-0")
    assert main([str(directory)]) == EXIT_INVALID
    assert "is not an attempt" in capsys.readouterr().err


FENCED = """
import os, sys, time
from steep.worker import run, sender
from steep.worker.__main__ import main
sender.POLL_SECONDS = 0.01
def work(directory, **_):
    print("working", flush=True)
    try:
        time.sleep(30)
    finally:
        print("this is not to be reached")
run.work_on = work
sys.exit(main([sys.argv[1]]))
"""


def test_a_fenced_process_ends_on_the_spot(directory: Path, ear: Ear) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FENCED, str(directory)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    wait_for(lambda: len(ear.heard) > 0)
    before = sorted(path.name for path in directory.iterdir())
    ear.next_attempt()
    said, errors = process.communicate(timeout=20)
    assert process.returncode == EXIT_STOPPED
    assert said == ""
    assert errors == "this attempt is over: attempt 2 has the job now\n"
    assert sorted(path.name for path in directory.iterdir()) == before
