"""Work in other processes: when the system ends one of them, that is an error for the user."""

from __future__ import annotations

import os

import pytest

from steep.corpus.workers import SMALL_BYTES, Workers
from steep.spec.errors import SteepError


def test_a_process_that_is_ended_is_told_of_by_whatever_waits_for_it() -> None:
    with Workers(2) as workers:
        workers.warm(abs, -1, SMALL_BYTES + 1)
        assert workers.start(abs, -2)() == 2
        result = workers.start(os._exit, 1)
        with pytest.raises(SteepError, match="was ended from outside"):
            result()
        with pytest.raises(SteepError, match="was ended from outside"):
            workers.start(abs, -3)
