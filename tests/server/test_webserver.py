"""The web server: what it spares requests."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest
import uvicorn

from steep.server.app import routed_app
from steep.server.webserver import StoppableServer


@pytest.fixture
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_a_collection_of_garbage_does_not_hold_requests_up(thawed: None) -> None:
    server = StoppableServer(uvicorn.Config(routed_app(), port=0, log_config=None, lifespan="off"), lambda: None)
    server.should_exit = True
    before = _collect()
    server.run()
    assert _collect() < before / 3


def _collect() -> float:
    """Processor seconds of looking through everything."""
    gc.collect()
    begun = time.thread_time()
    gc.collect()
    return time.thread_time() - begun
