"""A job's line is changed over HTTP: it goes back to a checkpoint and on from there, and others branch off; with a real run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.serving import ServerProcess, wait_for

from steep import Client
from steep.client.job import Job
from steep.spec.states import Reason, State

pytestmark = pytest.mark.slow
Tiny = Callable[..., dict[str, Any]]
STEPS = 60
EVERY = STEPS // 3  # steps between checkpoints, as `tiny` has it


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps copies of all checkpoints."""
    return tmp_path_factory.mktemp("copies")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, place: Path, copies: Path) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("server") / "data"
    server = ServerProcess(directory, place, ("--cpu-slots", "2", "--artifacts", str(copies)))
    server.start()
    yield server
    server.end()


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client() as known:
        key = known.keys.create("of the test", role="admin").secret
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"{server.address}/api/v1/jobs", headers=headers, timeout=20) as http:
        yield http


def told(server: ServerProcess, job: str) -> list[int]:
    """The steps that were trained, in the order in which the server heard of them."""
    with server.client() as client:
        return [one.step for one in client.jobs.reports(job, kind="step")]


@pytest.fixture(scope="module")
def line(client: Client, http: httpx.Client, tiny: Tiny) -> Job:
    """A job that was paused after its first checkpoint, went back to it, and came to its end from there."""
    spec = tiny("line", steps=STEPS)
    spec["checkpoints"]["keep_last"] = 10
    job = client.jobs.create(spec)
    wait_for(lambda: client.jobs.detail(job.id).progress.step >= 24)
    early = http.post(f"/{job.id}/rollback", json={"step": 20})
    assert (early.status_code, early.json()["cure"]) == (409, "`steep jobs pause` it first.")
    job.pause()
    wait_for(lambda: job.refresh().standing.is_paused)
    assert job.standing.reason is Reason.HELD_BY_USER
    assert job.standing.detail.startswith("paused by first key of this server: ")

    nowhere = http.post(f"/{job.id}/rollback", json={"step": STEPS + 1})  # any other may be where the pause found it
    assert nowhere.status_code in (404, 422), nowhere.text
    answer = http.post(f"/{job.id}/rollback", json={"step": 20})
    assert answer.status_code == 200, answer.text
    assert answer.json()["standing"]["detail"] == "goes on from step 20, by of the test"
    return job.wait(timeout_seconds=120, poll_seconds=0.2)


def test_a_job_goes_back_to_a_checkpoint_and_on_from_there(server: ServerProcess, client: Client, line: Job) -> None:
    assert line.state is State.SUCCEEDED, line.standing
    steps = told(server, line.id)
    paused_at = steps.index(21, 21)
    assert steps == [*range(1, steps[paused_at - 1] + 1), *range(21, STEPS + 1)]
    assert steps[paused_at - 1] > 20
    assert client.jobs.detail(line.id).attempts == 2
    there = {one.step: one.state for one in client.checkpoints.list(line.id)}
    assert there[STEPS] != "deleted"
    saved_at = steps[paused_at - 1]
    if saved_at % EVERY:  # else the line that it went on in came by there and saved one of its own
        assert saved_at not in there or there[saved_at] == "deleted", "it was set aside"


def test_a_branch_goes_on_from_a_checkpoint_as_a_job_of_its_own(
    server: ServerProcess, client: Client, http: httpx.Client, line: Job
) -> None:
    order = {"step": 40, "name": "branch", "set": {"training.budget": "48 steps"}}
    key = {"Idempotency-Key": "branch off"}
    wrong = http.post(f"/{line.id}/branch", json={**order, "set": {"training.method": "lora"}})
    assert wrong.status_code == 422, wrong.text
    first, again = (http.post(f"/{line.id}/branch", json=order, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201), first.text
    made = first.json()
    assert made["parent"] == line.id
    assert again.json()["id"] == made["id"]
    assert sorted(path.name for path in (server.data / "runs").iterdir()) == sorted([line.id, made["id"]])
    branch = client.jobs.wait(made["id"], timeout_seconds=120, poll_seconds=0.2)
    assert branch.state is State.SUCCEEDED, branch.standing
    assert told(server, branch.id) == list(range(41, 49))
    assert client.checkpoints.get(branch.id, 48).parent == f"{branch.id}/40"


def test_copies_of_all_checkpoints_lie_in_the_servers_store_and_go_with_their_job(
    client: Client, copies: Path, line: Job
) -> None:
    here = [one.step for one in client.checkpoints.list(line.id) if one.state != "deleted"]
    manifests = sorted((copies / line.id).rglob("step-*/manifest.json"))
    assert [int(path.parent.name.removeprefix("step-")) for path in manifests] == here
    assert [one.uploaded for one in client.checkpoints.list(line.id) if one.state != "deleted"] == [True] * len(here)
    size = sum(path.stat().st_size for path in (copies / line.id).rglob("*") if path.is_file())
    run = client.jobs.detail(line.id).cost.stored_bytes
    assert client.jobs.delete(line.id).freed_bytes >= size + run
    assert not (copies / line.id).exists()
