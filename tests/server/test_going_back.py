"""A job that is held by a limit: it goes on from an earlier checkpoint below it, and never at a limit that would stop it at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.makers import step
from tests.server.serving import serving
from tests.server.shelving import Shelf

from steep.server.auth import Caller
from steep.server.deriving import rollback_job
from steep.server.failure import Ending
from steep.server.loops.limits import LimitsLoop
from steep.spec.api.attempts import ReportsRequest
from steep.spec.api.jobs import JobChange
from steep.spec.api.keys import KeyRequest
from steep.spec.errors import EXIT_STOPPED, Conflict
from steep.spec.job import JobSpec
from steep.spec.service import Limits
from steep.spec.states import Reason, State


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    one = Shelf(tmp_path)
    yield one
    one.service.close()


@pytest.fixture
def caller(shelf: Shelf) -> Caller:
    return Caller(shelf.store.keys.create(KeyRequest(name="of the test"), shelf.now))


def held_at(shelf: Shelf, tokens: float) -> str:
    """A job with checkpoints of 10, 20 and 30 tokens, which was stopped at a limit after its last one."""
    job = shelf.job(10, 20, 30, ended=False)
    store = shelf.store
    token = store.tokens.renew(job, 1, shelf.now, lease_seconds=60)
    begin = store.attempts.record_reports(job, 1, token, ReportsRequest(), shelf.now, lease_seconds=60).next_report
    trained = step(30).model_copy(update={"sequence": begin, "tokens_seen": 30})
    request = ReportsRequest(reports=(trained,))
    store.attempts.record_reports(job, 1, token, request, shelf.now, lease_seconds=60)
    store.jobs.change(job, JobChange(limits=Limits(tokens=tokens)), shelf.now)
    LimitsLoop(shelf.service).turn()
    shelf.now += 100
    store.attempts.finish(job, 1, Ending(EXIT_STOPPED), shelf.now)
    assert store.jobs.get(job, shelf.now).standing.reason is Reason.HELD_BY_LIMIT
    return job


def test_it_goes_on_from_a_checkpoint_below_its_limit_of_tokens(shelf: Shelf, caller: Caller) -> None:
    job = held_at(shelf, tokens=25)
    with pytest.raises(Conflict, match="one of its limits"):
        rollback_job(shelf.service, caller, job, 30)
    assert sorted(shelf.views(job)) == [10, 20, 30], "and nothing was set aside"
    view = rollback_job(shelf.service, caller, job, 20)
    assert (view.progress.step, view.progress.tokens_seen) == (20, 20)
    shelf.store.attempts.begin(job, "none", [], shelf.now, lease_seconds=60)
    LimitsLoop(shelf.service).turn()
    assert shelf.store.jobs.get(job, shelf.now).standing.state is State.PROVISIONING


def test_it_does_not_go_on_at_another_limit_that_is_reached(shelf: Shelf, caller: Caller) -> None:
    job = held_at(shelf, tokens=25)
    shelf.store.jobs.change(job, JobChange(limits=Limits(time=50.0)), shelf.now)  # it has worked for 100
    with pytest.raises(Conflict, match="one of its limits"):
        rollback_job(shelf.service, caller, job, 10)
    shelf.store.jobs.change(job, JobChange(limits=Limits(time=500.0)), shelf.now)
    assert rollback_job(shelf.service, caller, job, 10).standing.reason is Reason.RESUMED


def test_one_that_a_person_holds_does_not_go_on_at_a_limit_either(tmp_path: Path) -> None:
    with serving(tmp_path) as house, house.client() as client:
        store, now = house.service.store, house.service.now()
        values = {"name": "x", "base": "org/x", "corpus": {"sources": ["hf://org/x"]}}
        job = store.jobs.submit(JobSpec.model_validate(values), now)[0].id
        store.attempts.begin(job, "none", [], now - 100, lease_seconds=60)
        client.jobs.pause(job)
        store.attempts.finish(job, 1, Ending(EXIT_STOPPED), now)
        client.jobs.change(job, limits=Limits(time=50.0))
        with pytest.raises(Conflict, match="one of its limits"):
            client.jobs.resume(job)
        client.jobs.change(job, limits=Limits(time=None))
        assert client.jobs.resume(job).standing.reason is Reason.RESUMED
