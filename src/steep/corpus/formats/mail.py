"""Mail: the subject and the words of the message; no addresses, no attachments."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage, Message

from steep.corpus.formats.content import Unreadable
from steep.corpus.formats.encoding import decode, decode_declared
from steep.corpus.formats.html import read_html
from steep.corpus.formats.markdown import join_blocks


def read_mail(data: bytes, encoding: str | None) -> str:
    """The message's text: its plain part where it has one, else its HTML. Raises Unreadable when it is no mail."""
    if b"\0" in data[:4096]:
        data = decode(data, encoding).encode("utf-8")
    message = email.message_from_bytes(data, policy=email.policy.default)
    if not message.keys():
        raise Unreadable("corrupt", "has no headers of a mail")
    if message.get_content_type() in ("application/pkcs7-mime", "multipart/encrypted"):
        raise Unreadable("encrypted", "is an encrypted mail")
    return join_blocks([_header(message, "subject"), *_bodies(message, encoding)])


def _bodies(message: Message, encoding: str | None) -> list[str]:
    body = message.get_body(("plain", "html")) if isinstance(message, EmailMessage) else None
    texts = [_text(body, encoding)] if body is not None else []
    for part in message.walk():  # mails that were sent on as a whole
        if part is not message and part.get_content_maintype() == "message" and part.is_multipart():
            texts += [
                join_blocks([_header(inner, "subject"), *_bodies(inner, encoding)])
                for inner in part.get_payload()
                if isinstance(inner, Message)
            ]
    return texts


def _text(part: Message, encoding: str | None) -> str:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes) or not payload.strip():
        return ""
    if part.get_content_type() == "text/html":
        return read_html(payload, encoding)
    return decode_declared(payload, part.get_content_charset(), encoding)


def _header(message: Message, name: str) -> str:
    return " ".join(str(message.get(name) or "").split())
