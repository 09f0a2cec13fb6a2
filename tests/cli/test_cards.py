"""Jobs in print."""

from __future__ import annotations

import pytest

from steep.cli.service.cards import _attempt
from steep.spec.api.jobs import AttemptView
from steep.spec.states import Reason, Standing, State


@pytest.mark.parametrize(
    ("state", "reason", "word"),
    [
        (State.CANCELLED, Reason.STOPPED_RESUMABLE, "stopped"),
        (State.CANCELLED, Reason.CANCELLED_BY_USER, "cancelled"),
        (State.RUNNING, Reason.WORKING, "running"),
    ],
)
def test_only_what_was_cancelled_is_called_so(state: State, reason: Reason, word: str) -> None:
    """An attempt of a job that is paused was stopped, and goes on."""
    attempt = AttemptView(number=1, standing=Standing(state=state, reason=reason, since=0.0), started_at=0.0)
    assert str(_attempt(attempt)[1]) == word
