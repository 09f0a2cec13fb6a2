"""The web server: how it is set up, and how it ends in good order, streams first."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from steep.server.settings import ServerSettings

SWITCH_SECONDS = 0.0005
CLOSE_SECONDS = 5
"""How long requests that are under way may take when the server ends."""


def web_config(app: FastAPI, settings: ServerSettings) -> uvicorn.Config:
    """How the application is served."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=CLOSE_SECONDS,
        h11_max_incomplete_event_size=64 << 10,
    )


class StoppableServer(uvicorn.Server):
    """Ends on SIGTERM and SIGINT. A second SIGINT does not wait for requests.

    Args:
        config: as for any server of uvicorn.
        let_go: ends what would go on for ever, such as streams of events.
    """

    def __init__(self, config: uvicorn.Config, let_go: Callable[[], None]) -> None:
        super().__init__(config)
        self._let_go = let_go

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve.

        What is there by now stays as long as the server does, so the collector of garbage leaves it alone from now on: to look
        through all of it would hold up every request by a tenth of a second each time. Threads take turns in a tenth of the
        usual time: a request gives its turn away some twenty times, and a busy loop would keep each of them for 5 ms.
        """
        gc.freeze()
        gc.enable()  # see `__main__.py`
        sys.setswitchinterval(SWITCH_SECONDS)
        super().run(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn's own raises the signal again at the end, which would end the process before its last words."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal asks to stop."""
        self._let_go()
        super().handle_exit(sig, frame)
