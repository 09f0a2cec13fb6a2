"""Jobs in print."""

from __future__ import annotations

import pytest
from tests.client.service import job_view

from steep.cli.service.cards import _attempt, _facts, print_plan
from steep.spec.api.jobs import AttemptView, JobDetail, Plan
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


def test_what_was_selected_is_named_once() -> None:
    spec = {"name": "name-0", "base": "org/model", "corpus": {"sources": ["/text"]}}
    outcome = {"selected": "step 12", "selected_step": 12, "selection_reason": "step 12: the most gain"}
    job = JobDetail.model_validate(job_view(0, "succeeded", "completed", spec=spec, outcome=outcome))
    assert dict(_facts(job))["selected"] == "step 12: the most gain"


@pytest.mark.parametrize(
    ("cost", "told"), [(0.0, ""), (1.5, "about 1.50 USD"), (None, "Not known: steps, memory, time, cost")]
)
def test_a_plan_tells_a_cost_where_there_is_a_price(
    capsys: pytest.CaptureFixture[str], cost: float | None, told: str
) -> None:
    print_plan(Plan(tokens=1000, cost=cost))
    out = capsys.readouterr().out
    assert told in out
    assert "0.00" not in out
    assert ("cost" in out or "USD" in out) is (cost != 0.0)
