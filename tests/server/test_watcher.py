"""What the watcher takes in of a worker that has ended: all that it said, and none of its secrets."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from tests.server.shelving import Shelf

from steep.artifacts.redaction import REDACTED
from steep.compute.contract import WorkerStatus
from steep.server.loops.watcher import Watcher
from steep.server.secretbox import SecretBox
from steep.spec.results import Results, Score
from steep.spec.states import Reason, State

SECRETS = {"HF_TOKEN": "swordfish 4711", "AWS_REGION": "eu-central-1"}


def caught_up(shelf: Shelf) -> str:
    """What is kept of what a worker printed that could not send it any more."""
    job = shelf.job(ended=False)
    shelf.service.run(job).path.joinpath("worker.out").write_text(
        f"in {SECRETS['AWS_REGION']} with {SECRETS['HF_TOKEN']}\n"
    )
    (attempt,) = shelf.store.attempts.living()
    Watcher(shelf.service)._catch_up(attempt)
    return shelf.store.logs.read(job, "stdout", 0).text


def test_secrets_of_the_project_are_taken_out_of_what_its_workers_printed(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for name, value in SECRETS.items():
        shelf.store.secrets.put("default", name, shelf.service.box.lock(value), time.time())
    assert caught_up(shelf) == f"in eu-central-1 with {REDACTED}\n"  # a region is none
    shelf.service.close()


def test_what_a_fenced_worker_said_before_it_ended_is_taken_in_too(tmp_path: Path) -> None:
    """Its work may be complete: then nobody comes after it who could tell."""
    shelf = Shelf(tmp_path)
    job = shelf.job(ended=False)
    (attempt,) = shelf.store.attempts.living()
    shelf.store.attempts.revoke(job, attempt.number, "silent for too long", time.time())
    shelf.service.run(job).path.joinpath("worker.out").write_text("complete\n")
    (fenced,) = shelf.store.attempts.living()
    Watcher(shelf.service)._finish(fenced, WorkerStatus("ended", exit_code=0))
    assert shelf.store.jobs.get(job, time.time()).standing.state is State.SUCCEEDED
    assert shelf.store.logs.read(job, "stdout", 0).text == "complete\n"
    shelf.service.close()


@pytest.mark.parametrize("cancelled", [False, True])
def test_what_was_selected_is_known_before_a_job_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    """The server may die right after it wrote that, and nobody looks at the job again."""
    shelf = Shelf(tmp_path)
    job = shelf.job(10, 20, ended=False)
    scores = [
        Score(
            kind="checkpoint" if step else "base", step=step, tokens_seen=step, domain_bpb=2.0 - step / 20,
            general_bpb=1.0, gain=step / 20, forgetting=0.0, selected=step == 10,
        )
        for step in (0, 10, 20)
    ]  # fmt: skip
    results = Results(name="kept", base="org/x", forgetting_budget=0.1, scores=tuple(scores))
    shelf.service.run(job).results_file.write_text(results.model_dump_json())
    if cancelled:
        shelf.store.jobs.request_stop(job, Reason.CANCEL_REQUESTED, "enough", time.time())
    finish = shelf.store.attempts.finish

    def die(*arguments: Any) -> None:
        finish(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(shelf.store.attempts, "finish", die)
    (attempt,) = shelf.store.attempts.living()
    with pytest.raises(KeyboardInterrupt):
        Watcher(shelf.service)._finish(attempt, WorkerStatus("ended", exit_code=0))
    view = shelf.store.jobs.get(job, time.time())
    assert view.standing.state is (State.CANCELLED if cancelled else State.SUCCEEDED)
    assert view.outcome.selected_step == 10
    assert [step for step, one in shelf.views(job).items() if one.selected] == [10]
    shelf.service.close()


def test_one_that_cannot_be_opened_any_more_keeps_nothing_from_being_taken_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from cryptography.fernet import Fernet

    shelf = Shelf(tmp_path)
    other = SecretBox(Fernet.generate_key())
    shelf.store.secrets.put("default", "HF_TOKEN", other.lock("lost"), time.time())
    assert caught_up(shelf).startswith("in eu-central-1")
    assert "cannot be taken out" in caplog.text
    shelf.service.close()
