"""Alerts by e-mail: what stands in one, and how it gets to the mail server that the operator names."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass, field
from email.errors import MessageError, NonASCIILocalPartDefect
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

from steep.server.delivering import Undelivered
from steep.spec.alerts import Notification
from steep.spec.errors import InvalidInput

SILENCE_SECONDS = 10.0

Scheme = Literal["smtp", "smtp+starttls", "smtps"]
_PORTS: dict[Scheme, int] = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
_HERE = ("localhost", "127.0.0.1", "::1")
_FORM = "Write it like smtps://user@mail.example.org; the password goes into STEEP_SMTP_PASSWORD."


@dataclass(frozen=True, slots=True)
class MailServer:
    """Who takes e-mail, and in whose name it is sent.

    Args:
        scheme: `smtps` is encrypted from the beginning, `smtp+starttls` from the greeting on, `smtp` never.
        host: of the mail server.
        port: of it.
        sender: address that stands in From.
        user: to log in as; None: not at all.
        password: of that user.
    """

    scheme: Scheme
    host: str
    port: int
    sender: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str, sender: str | None, password: str | None) -> MailServer:
        """The mail server of a URL.

        Args:
            url: `smtps://user@host:port`, or with another scheme.
            sender: address of From; by default the user, where that is one.
            password: of the user.

        Raises:
            InvalidInput: it is none, the sender is missing, or the password would be readable on its way.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InvalidInput(f"is no URL ({error})", where="--smtp", cure=_FORM) from error
        scheme = next((one for one in get_args(Scheme) if one == parts.scheme), None)
        if scheme is None or not host or parts.path.strip("/") or parts.query:
            raise InvalidInput(f"{parts.scheme or url}: that is no mail server", where="--smtp", cure=_FORM)
        if parts.password is not None:
            raise InvalidInput("has a password in it, which every user of the machine sees", where="--smtp", cure=_FORM)
        user = None if parts.username is None else unquote(parts.username)
        if user is not None and scheme == "smtp" and host not in _HERE:
            raise InvalidInput("the password would be readable on its way", where="--smtp", cure="Use smtps://.")
        if user is not None and password is None:
            raise InvalidInput("the user's password is missing", where="--smtp", cure="Set STEEP_SMTP_PASSWORD.")
        sender = sender or user or ""
        if "@" not in parseaddr(sender)[1]:
            raise InvalidInput(
                "it is not known whose name stands in From", where="--mail-from", cure="Give an e-mail address."
            )
        return cls(scheme, host, port or _PORTS[scheme], sender, user, password)


def is_address(text: str) -> bool:
    """Whether an e-mail can be addressed so. What is read is one address, without a name."""
    try:
        Address(addr_spec=text)
    except NonASCIILocalPartDefect:
        return True  # many mail servers take it
    except (MessageError, ValueError, LookupError, AttributeError):  # the parser stumbles over some that are none
        return False
    return True


def compose(notification: Notification, to: str, sender: str, address: str) -> EmailMessage:
    """The e-mail that tells of an event.

    Args:
        notification: what to tell.
        to: whom.
        sender: in whose name.
        address: where the service is reached.
    """
    from datetime import UTC, datetime

    event, name = notification.event, notification.job_name
    kind = str(event.kind).replace("_", " ")
    message = EmailMessage()
    message["Subject"] = f"[Steep] {name}: {kind}"
    message["From"] = sender
    message["To"] = to
    message["Date"] = format_datetime(datetime.fromtimestamp(event.time, UTC))
    message["Message-ID"] = f"<delivery-{notification.id}.{event.job_id}@{parseaddr(sender)[1].rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    facts = {
        "job": f"{name} ({event.job_id})",
        "project": notification.project,
        "attempt": "" if event.attempt is None else str(event.attempt),
        "time": f"{datetime.fromtimestamp(event.time, UTC):%Y-%m-%d %H:%M:%S} UTC",
        "server": address,
    }
    lines = [event.message or kind, "", *(f"{label:<9}{text}" for label, text in facts.items() if text)]
    message.set_content("\n".join([*lines, "", f"steep jobs show {event.job_id}", ""]))
    return message


def send(message: EmailMessage, to: str, server: MailServer) -> None:
    """Hand an e-mail to somebody over to the mail server.

    Raises:
        Undelivered: it does not take it.
    """
    try:
        with _connect(server) as connection:
            if server.user is not None and server.password is not None:
                connection.login(server.user, server.password)
            connection.send_message(message, from_addr=parseaddr(server.sender)[1], to_addrs=[to])
    except smtplib.SMTPRecipientsRefused as error:
        code, words = next(iter(error.recipients.values()), (550, b"refused"))
        raise Undelivered(f"the mail server refused {to}: {_told(code, words)}", refused=code >= 500) from error
    except smtplib.SMTPResponseException as error:
        told = _told(error.smtp_code, error.smtp_error)
        raise Undelivered(f"the mail server answered {told}", refused=error.smtp_code >= 500) from error
    except smtplib.SMTPException as error:
        raise Undelivered(f"the mail server did not take it: {error}") from error
    except (OSError, ValueError) as error:
        raise Undelivered(f"{server.host} cannot be reached: {error}") from error


def _connect(server: MailServer) -> smtplib.SMTP:
    if server.scheme == "smtps":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(server.host, server.port, timeout=SILENCE_SECONDS, context=context)
    connection = smtplib.SMTP(server.host, server.port, timeout=SILENCE_SECONDS)
    if server.scheme == "smtp+starttls":
        try:
            connection.starttls(context=ssl.create_default_context())
        except BaseException:
            connection.close()
            raise
    return connection


def _told(code: int, words: bytes | str) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return f"{code} {text}".strip()
