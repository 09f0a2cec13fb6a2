"""A small real HTTP server that keeps to the API, and that can be told to behave badly."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from blake3 import blake3

KEY = "steep-key-of-the-tests"


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """What to answer. `pieces` is sent as it comes, without a length, until it ends."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Iterator[bytes] | None = None


class Cut(Exception):
    """The connection is cut instead of an answer."""


Route = Callable[..., Reply]
Fault = Callable[[Seen, Callable[[], Reply]], Reply]


def ok(body: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})


def problem(status: int, title: str, **more: Any) -> Reply:
    content = {"title": title, "status": status, **more}
    return Reply(status, json.dumps(content).encode(), {"Content-Type": "application/problem+json"})


def page(items: list[Any], query: dict[str, str]) -> Reply:
    """A page of a list by `page` and `page_size`."""
    number, size = int(query.get("page", 1)), int(query.get("page_size", 50))
    rest = items[(number - 1) * size :]
    return ok({"items": rest[:size], "page": number, "page_size": size, "has_more": len(rest) > size})


# ---- ways to behave badly


def lost(seen: Seen, answer: Callable[[], Reply]) -> Reply:
    """Does what is asked, and cuts the connection before it answers."""
    answer()
    raise Cut


def unread(seen: Seen, answer: Callable[[], Reply]) -> Reply:
    """Cuts the connection and does nothing."""
    raise Cut


def busy(status: int = 503, retry_after: str | None = None) -> Fault:
    """Answers that it cannot now."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return lambda seen, answer: Reply(status, b"<html>busy</html>", headers)


def slow(seconds: float) -> Fault:
    """Takes its time."""

    def wait(seen: Seen, answer: Callable[[], Reply]) -> Reply:
        time.sleep(seconds)
        return answer()

    return wait


class Service:
    """The server. `routes` are tried in order: method, pattern of the path, and what answers it."""

    def __init__(self) -> None:
        self.routes: list[tuple[str, re.Pattern[str], Route]] = []
        self.faults: list[Fault | None] = []
        self.seen: list[Seen] = []
        self.token = KEY
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._connections: set[socket.socket] = set()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def route(self, method: str, pattern: str, answer: Route) -> None:
        """`pattern` is a regular expression of the path below /api/v1; its groups are given to `answer` after the request."""
        self.routes.insert(0, (method, re.compile(f"/api/v1{pattern}"), answer))

    def requests(self, method: str, path: str) -> list[Seen]:
        return [one for one in self.seen if (one.method, one.path) == (method, f"/api/v1{path}")]

    # ---- life

    def start(self) -> None:
        """Be there, at the same address each time."""
        assert self._server is None
        service = self

        class Handler(_Handler):
            pass

        Handler.service = service
        self._server = _Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Be gone: connections are refused, and those that are open are cut."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        with self._lock:
            for connection in self._connections:
                _cut(connection)

    @contextmanager
    def away(self) -> Iterator[None]:
        self.stop()
        yield
        self.start()

    # ---- answering

    def answer(self, seen: Seen) -> Reply:
        with self._lock:
            self.seen.append(seen)
            fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            return fault(seen, lambda: self._answer(seen))
        return self._answer(seen)

    def _answer(self, seen: Seen) -> Reply:
        if seen.headers.get("authorization") != f"Bearer {self.token}":
            return problem(401, "the key is unknown", code="unauthorized")
        for method, pattern, route in self.routes:
            if method == seen.method and (found := pattern.fullmatch(seen.path)):
                return route(seen, *map(unquote, found.groups()))
        return problem(404, f"there is no {seen.path}", code="not_found")

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.discard(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error here."""


class _Handler(BaseHTTPRequestHandler):
    service: Service
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.service.opened(self.connection)

    def finish(self) -> None:
        self.service.closed(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent."""

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        query = {name: ",".join(values) for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, parts.path, query, headers, self._body(headers))
        try:
            reply = self.service.answer(seen)
            self._send(reply)
        except Cut:
            self.close_connection = True
            _cut(self.connection)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _handle

    def _body(self, headers: dict[str, str]) -> bytes:
        return self.rfile.read(int(headers.get("content-length", 0)))

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.pieces is None:
            if "Content-Length" not in reply.headers:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in reply.pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was quicker


# ---- what a service of jobs answers


def job_view(number: int, state: str = "queued", reason: str = "submitted", **more: Any) -> dict[str, Any]:
    return {
        "id": f"job-{number}",
        "name": f"name-{number}",
        "project": "default",
        "base": "/base",
        "standing": {"state": state, "reason": reason, "detail": "", "since": 1.0},
        "created_at": 1.0,
        **more,
    }


def event(number: int, kind: str = "progress", job: str = "job-0", **more: Any) -> dict[str, Any]:
    return {"id": number, "job_id": job, "kind": kind, "time": float(number), "message": f"event {number}", **more}


def ranged(content: bytes, seen: Seen) -> Reply:
    """A file, or the rest of one."""
    begin = seen.headers.get("range", "").removeprefix("bytes=").removesuffix("-")
    if not begin:
        return Reply(200, content)
    if int(begin) >= len(content):
        return problem(416, "that is beyond the end of the file")
    return Reply(206, content[int(begin) :], {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"})


def digest(content: bytes) -> str:
    return blake3(content).hexdigest()
