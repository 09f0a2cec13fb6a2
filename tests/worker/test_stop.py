"""A request to stop is remembered until the work asks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from steep.worker.stop import StopRequest


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The test runner's own handlers come back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_nobody_asked() -> None:
    stop = StopRequest()
    stop.listen()
    assert stop() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_request(number: signal.Signals) -> None:
    stop = StopRequest()
    stop.listen()
    os.kill(os.getpid(), number)
    assert stop() == f"{number.name} was received"
    assert stop() == f"{number.name} was received"


def test_a_deadline_is_a_request() -> None:
    stop = StopRequest(0.5)
    assert stop() is None
    time.sleep(0.55)
    assert stop() == "the job's deadline has passed"


def test_a_signal_goes_before_the_deadline() -> None:
    stop = StopRequest(0.0)
    stop.listen()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop() == "SIGTERM was received"


def test_the_first_reason_stays() -> None:
    orders: list[str] = []
    stop = StopRequest(asked=lambda: orders[-1] if orders else None)
    stop.listen()
    assert stop() is None
    orders.append("the service asks to pause")
    assert stop() == "the service asks to pause"
    orders.clear()
    assert stop() == "the service asks to pause"
