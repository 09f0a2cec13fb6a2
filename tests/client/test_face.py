"""The public face: both clients do the same, come without torch, and only when they are asked for."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from tests.client.conftest import Do
from tests.client.service import Service, busy, event, job_view, ok, page

import steep
from steep.client.blocking import finish
from steep.client.client import AsyncClient, Client
from steep.spec.errors import InvalidSpec
from steep.spec.job import JobSpec

IMPORTS = """
import sys
import steep
assert "steep.client" not in sys.modules and "httpx" not in sys.modules
steep.Client, steep.AsyncClient
heavy = {"torch", "transformers", "pyarrow", "fastapi", "sqlalchemy"} & set(sys.modules)
assert not heavy, heavy
"""


def test_it_comes_quickly_and_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_package_has_what_it_says() -> None:
    assert steep.Client is Client
    assert steep.AsyncClient is AsyncClient
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        _ = steep.Clinet


def resources(client: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(client).items() if not name.startswith("_") and name != "server"}


def methods(kind: type) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_") and callable(value)}


def test_both_faces_have_the_same_features() -> None:
    blocking, waiting = Client("http://x", "key"), AsyncClient("http://x", "key")
    blocking.close()
    assert resources(blocking).keys() == resources(waiting).keys()
    for name, resource in resources(blocking).items():
        mine, theirs = methods(type(resource)), methods(type(getattr(waiting, name)))
        assert mine.keys() == theirs.keys(), name
        for method, function in mine.items():
            assert inspect.signature(function) == inspect.signature(theirs[method]), (name, method)
            assert function.__doc__ == theirs[method].__doc__
            assert not inspect.iscoroutinefunction(function)


def test_it_works_where_a_loop_runs_already(service: Service) -> None:
    """As in a notebook."""
    service.route("POST", "/jobs/(.+)/pause", lambda seen, job: ok(job_view(0)))
    service.route("GET", "/events", lambda seen: page([event(1), event(2)], seen.query))

    async def in_a_notebook() -> list[Any]:
        with Client(service.address, service.token) as client:
            return [client.jobs.pause("job-0").id, *(one.id for one in client.events.list())]

    assert asyncio.run(in_a_notebook()) == ["job-0", 1, 2]


def test_waiting_ones_share_a_loop(service: Service) -> None:
    """Ten that are answered after a while each take that while together."""
    service.route("POST", "/jobs/(.+)/pause", lambda seen, job: ok(job_view(int(job))))
    service.faults = [busy(429, retry_after="0.5")] * 10

    async def all_at_once() -> list[str]:
        async with AsyncClient(service.address, service.token) as client:
            jobs = await asyncio.gather(*(client.jobs.pause(str(number)) for number in range(10)))
            return [job.id for job in jobs]

    assert asyncio.run(asyncio.wait_for(all_at_once(), 4.0)) == [f"job-{number}" for number in range(10)]


@types.coroutine
def waits() -> Any:
    yield


def test_what_would_wait_is_not_built_on_a_blocking_transport() -> None:
    with pytest.raises(AssertionError, match="something waits"):
        finish(waits())


def test_a_spec_may_be_a_path_values_or_itself(
    do: Do, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[Any] = []
    service.route("POST", "/jobs", lambda seen: (specs.append(seen.json()["spec"]), ok(job_view(0), 201))[1])
    values = {
        "name": "handbook",
        "base": "org/base",
        "corpus": {"sources": ["text"]},
        "training": {"budget": "2 epochs"},
    }
    (tmp_path / "jobs").mkdir()
    path = tmp_path / "jobs" / "job.yaml"
    path.write_text("name: handbook\nbase: org/base\ncorpus: {sources: [text]}\ntraining: {budget: 2 epochs}\n")
    monkeypatch.chdir(tmp_path)
    for spec in (path, str(path), values, JobSpec.model_validate(values)):
        do("jobs.create", spec)
    found = [JobSpec.model_validate(one) for one in specs]
    assert [one.corpus.sources[0].path for one in found] == [str(path.parent / "text")] * 2 + [
        str(tmp_path / "text"),
        "text",
    ]
    assert len({one.model_copy(update={"corpus": None}).model_dump_json() for one in found}) == 1
    assert specs[3] == JobSpec.model_validate(values).model_dump(mode="json", exclude_unset=True)
    with pytest.raises(InvalidSpec, match="did you mean 'base'"):
        do("jobs.create", {**values, "bsae": "x"})
    assert len(specs) == 4


def test_a_job_in_the_hand(client: Client, service: Service) -> None:
    for order, state, reason in (
        ("pause", "queued", "held_by_user"),
        ("resume", "queued", "resumed"),
        ("cancel", "stopping", "cancel_requested"),
        ("rollback", "queued", "resumed"),
    ):
        service.route("POST", f"/jobs/job-0/{order}", lambda seen, s=state, r=reason: ok(job_view(0, s, r)))
    service.route("GET", "/jobs", lambda seen: page([job_view(0)], seen.query))
    service.route("DELETE", "/jobs/job-0", lambda seen: ok({"freed_bytes": 3}))
    service.route("GET", "/jobs/job-0/events", lambda seen: page([event(1)], seen.query))
    (job,) = client.jobs.list()
    assert repr(job) == "<Job job-0 'name-0' queued>"
    assert job.pause().standing.is_paused
    assert not job.resume().standing.is_paused
    assert job.rollback(4).view.name == "name-0"
    assert (job.cancel().state, job.state) == ("stopping", "stopping")
    assert [one.id for one in job.events()] == [1]
    assert job.delete().freed_bytes == 3
