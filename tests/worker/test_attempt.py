"""Which attempt this is comes from the environment, and the token does not stay there."""

from __future__ import annotations

import pytest

from steep.spec.errors import InvalidInput
from steep.worker.attempt import Attempt, take_attempt

FULL = {"STEEP_SERVER": "http://here:1", "STEEP_ATTEMPT": "job-7f3k/3", "STEEP_ATTEMPT_TOKEN": "secret-token"}


def test_all_of_it_is_read_and_the_token_is_taken_away() -> None:
    environment = {**FULL, "HOME": "/root"}
    attempt = take_attempt(environment)
    assert attempt == Attempt("job-7f3k", 3, "http://here:1", "secret-token")
    assert "secret-token" not in repr(attempt) + str(environment)
    assert environment["HOME"] == "/root"


def test_without_a_service_there_is_none() -> None:
    assert take_attempt({}) is None
    assert take_attempt({"STEEP_SERVER": "http://here:1", "STEEP_KEY": "k"}) is None


def test_without_a_server_it_only_has_a_fence() -> None:
    assert take_attempt({"STEEP_ATTEMPT": "job/2"}) == Attempt("job", 2)


@pytest.mark.parametrize("name", ["", "job", "job/", "/3", "job/x", "job/0", "job/-1"])
def test_what_is_no_attempt_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is not an attempt"):
        take_attempt({**FULL, "STEEP_ATTEMPT": name})
