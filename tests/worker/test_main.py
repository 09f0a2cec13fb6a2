"""The worker as a program: what it was asked, how it ended, and what it leaves to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.worker.conftest import MakeContext

from steep.spec.errors import EXIT_DONE, EXIT_FAILED, EXIT_INVALID, EXIT_STOPPED, InvalidCorpus, Stopped
from steep.spec.stages import Stage
from steep.worker import run as run_module
from steep.worker.__main__ import main


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
    assert error_of(directory) == {"what": error.what, "where": error.where, "cure": error.cure, "exit_code": code}
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
    monkeypatch.setattr(run_module, "work_on", lambda run, until: asked.append(until))
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
