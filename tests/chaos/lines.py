"""Lines between processes that can be troubled: one that understands requests of HTTP, and one that passes bytes on."""

from __future__ import annotations

import contextlib
import random
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Literal

Trouble = Literal["none", "cut", "deaf", "twice", "slow"]
"""Requests are lost; answers are lost, so that whoever asked asks again; requests arrive twice; they take long."""

ANSWER_SECONDS = 60.0
SLOW_SECONDS = 1.5
SHARE = 0.6
"""So many of the requests are troubled."""


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)

    def finish_request(self, request: socket.socket, client_address: object) -> None:
        with contextlib.suppress(OSError):
            self._serve(request)

    def handle_error(self, request: object, client_address: object) -> None:
        raise  # what comes here is no OSError, and so a fault of this file


class Line:
    """Listens, and hands each connection to `serve`."""

    def __init__(self) -> None:
        self._server = _Server(self.serve)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, client: socket.socket) -> None:
        raise NotImplementedError


class Requests(Line):
    """Passes requests on to one of some servers: one that is away is passed over, as by any load balancer.

    Args:
        ports: of the servers.
        seed: decides which requests are troubled, while there is trouble.
    """

    def __init__(self, ports: Sequence[int], seed: int = 0) -> None:
        self.trouble: Trouble = "none"
        self.troubled = 0
        self._ports = list(ports)
        self._chance = random.Random(seed)
        super().__init__()

    def serve(self, client: socket.socket) -> None:
        with client.makefile("rb") as requests:
            while (request := _message(requests)) is not None:
                trouble: Trouble = self.trouble if self._chance.random() < SHARE else "none"
                self.troubled += trouble != "none"
                if trouble == "cut":
                    return
                if trouble == "slow":
                    time.sleep(self._chance.random() * SLOW_SECONDS)
                answer = self._ask(request)
                if trouble == "twice":
                    answer = self._ask(request) or answer
                if answer is None or trouble == "deaf":
                    return
                client.sendall(answer)

    def _ask(self, request: bytes) -> bytes | None:
        for port in self._chance.sample(self._ports, len(self._ports)):
            try:
                server = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)
            except OSError:
                continue
            with server, contextlib.suppress(OSError), server.makefile("rb") as answers:
                server.sendall(request)
                return _message(answers)
            return None
        return None


class Bytes(Line):
    """Passes bytes on to a port; while it is cut, connections end at once, those that are open too."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_cut = False
        self._open: set[socket.socket] = set()
        super().__init__()

    def cut(self) -> None:
        self._is_cut = True
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._is_cut = False

    def serve(self, client: socket.socket) -> None:
        if self._is_cut:
            return
        with socket.create_connection(("127.0.0.1", self._port)) as server:
            self._open |= {client, server}
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()
            self._open -= {client, server}


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while received := source.recv(1 << 16):
            target.sendall(received)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def _message(stream: IO[bytes]) -> bytes | None:
    """A request or an answer, whole; None when the other side is gone before its end."""
    head, length = b"", 0
    while (line := stream.readline(1 << 16)) not in (b"\r\n", b""):
        head += line
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if not line:
        return None
    body = stream.read(length)
    return head + line + body if len(body) == length else None
