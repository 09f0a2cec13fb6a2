"""Real receivers of alerts: a web server and a mail server, which do as they are told and keep what they got."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.server.serving import free_port

from steep.spec.alerts import DELIVERY_HEADER, Notification


@dataclass
class Got:
    """A request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> Notification:
        return Notification.model_validate_json(self.body)

    @property
    def delivery(self) -> str:
        return self.headers[DELIVERY_HEADER]


@dataclass
class Receiver:
    """Answers each request with the next of `answers`, and with 204 when there are none left."""

    port: int
    answers: list[int] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?room=7"

    @property
    def kinds(self) -> list[str]:
        return [str(each.told.event.kind) for each in self.got]


@contextmanager
def receiving(*answers: int, port: int = 0, holds: bool = False) -> Iterator[Receiver]:
    """A web server; one that holds answers nothing before `go_on` is set."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append(Got(self.path, dict(self.headers.items()), body))
            receiver.arrived.set()
            receiver.go_on.wait(20)
            status = receiver.answers.pop(0) if receiver.answers else 204
            try:
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", f"http://127.0.0.1:{receiver.port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
            except ConnectionError:
                pass  # whoever asked is gone

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        receiver = Receiver(server.server_port, list(answers))
        if not holds:
            receiver.go_on.set()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.go_on.set()
            server.shutdown()
            thread.join()


@dataclass
class Mailbox:
    """A mail server's memory."""

    port: int = 0
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    envelopes: list[tuple[str, list[str], bool]] = field(default_factory=list)
    messages: list[EmailMessage] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


@contextmanager
def mail_server(context: ssl.SSLContext | None = None, *, from_the_beginning: bool = False) -> Iterator[Mailbox]:
    """A mail server; with a context it takes e-mail only after a login, encrypted by STARTTLS or from the beginning."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult

    box = Mailbox()

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            if box.refusals:
                return box.refusals.pop(0)
            box.envelopes.append((envelope.mail_from, envelope.rcpt_tos, session.ssl is not None))
            message = message_from_bytes(envelope.content, policy=default)
            assert isinstance(message, EmailMessage)
            box.messages.append(message)
            return "250 taken"

    def login(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        box.logins.append((data.login, data.password))
        return AuthResult(success=True)

    options: dict[str, Any] = {} if context is None else {"authenticator": login, "auth_required": True}
    if from_the_beginning:
        options |= {"ssl_context": context, "auth_require_tls": False}  # which it takes for STARTTLS alone
    elif context is not None:
        options |= {"tls_context": context, "require_starttls": True}
    controller = Controller(Handler(), hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    try:
        box.port = controller.port
        yield box
    finally:
        controller.stop()
