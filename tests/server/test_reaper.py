"""The reaper by a clock that is moved: who is fenced, when, and what is done again until it has succeeded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.shelving import Shelf

from steep.server.loops.reaper import Reaper
from steep.server.store.attempts import Living
from steep.spec.api.attempts import ReportsRequest
from steep.spec.states import Reason, State


class Silent:
    """An attempt that works, and is heard of when it is told to be."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf, self.store = shelf, shelf.store
        self.job = shelf.job(ended=False)
        self.token = shelf.store.tokens.renew(self.job, 1, shelf.now, lease_seconds=60)
        self.reaper = Reaper(shelf.service)

    def turn_after(self, seconds: float) -> None:
        self.shelf.now += seconds
        self.reaper.turn()

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds / 20) + 1):
            self.turn_after(20)

    def is_heard(self) -> None:
        self.store.attempts.record_reports(self.job, 1, self.token, ReportsRequest(), self.shelf.now, lease_seconds=60)

    @property
    def living(self) -> Living:
        (attempt,) = self.store.attempts.living()
        return attempt

    @property
    def height(self) -> int:
        return self.shelf.service.run(self.job).fence.height()

    @property
    def patience(self) -> float:
        return self.shelf.service.settings.patience.unreachable + 1


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Silent]:
    shelf = Shelf(tmp_path)
    yield Silent(shelf)
    shelf.service.close()


def test_one_that_is_heard_of_at_the_last_moment_is_not_fenced(silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    silent.wait(61)
    assert silent.living.standing.state is State.UNREACHABLE
    look = silent.store.attempts.living

    def look_then_hear(**chosen: Any) -> list[Living]:
        found = look(**chosen)
        silent.is_heard()
        return found

    with monkeypatch.context() as change:
        silent.wait(silent.patience - 60)
        change.setattr(silent.store.attempts, "living", look_then_hear)
        silent.turn_after(25)
    assert silent.living.revoked_at is None
    assert silent.height == 0
    silent.is_heard()


def test_a_fence_that_the_disk_refuses_is_moved_later(silent: Silent) -> None:
    in_its_place = silent.shelf.service.run(silent.job).path / "fence"
    in_its_place.mkdir()
    silent.wait(61 + silent.patience)
    assert silent.living.revoked_at is not None, "its token opens nothing in any case"
    in_its_place.rmdir()
    silent.turn_after(1)
    assert silent.height == 2


def test_one_that_falls_silent_while_it_stops_is_fenced_when_the_service_could_have_heard_it(silent: Silent) -> None:
    silent.store.jobs.request_stop(silent.job, Reason.CANCEL_REQUESTED, "enough", silent.shelf.now)
    silent.turn_after(silent.patience + 60)  # the first turn: the service was away until now
    assert silent.living.revoked_at is None
    silent.wait(silent.patience)
    assert silent.living.revoked_at is not None
    assert silent.height == 2
