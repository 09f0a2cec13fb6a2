"""Signatures of webhooks: HMAC-SHA256 over time and body, so that a receiver knows who wrote what it got, and when.

    Steep-Signature: t=1767225600,v1=a7d1...

What is signed is the time, a full stop and the body, byte by byte as it came. Each try is signed anew: an old request that
somebody kept is told by its time.
"""

from __future__ import annotations

import hashlib
import hmac
import time

TOLERANCE_SECONDS = 300.0


def sign(body: bytes, secret: str, now: float) -> str:
    """The value of the header `Steep-Signature`.

    Args:
        body: of the request.
        secret: which both sides know.
        now: seconds since the epoch.
    """
    moment = str(int(now))
    return f"t={moment},v1={_digest(body, secret, moment)}"


def verify_signature(
    body: bytes,
    header: str | None,
    secret: str,
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> bool:
    """Whether a webhook's request was made by who knows the secret, and just now. Verify before you read the body.

    Args:
        body: of the request, as it came; not what a library made of it.
        header: the value of `Steep-Signature`; None where there was none.
        secret: which the alert names on the server.
        tolerance_seconds: how far the clocks of both sides may be apart.
        now: seconds since the epoch; the present by default.
    """
    parts = [part.strip().partition("=") for part in (header or "").split(",")]
    moments = [value for name, _, value in parts if name == "t"]
    if len(moments) != 1 or not (moments[0].isascii() and moments[0].isdecimal() and len(moments[0]) < 20):
        return False
    expected = _digest(body, secret, moments[0]).encode()
    known = [hmac.compare_digest(value.encode(), expected) for name, _, value in parts if name == "v1"]
    present = time.time() if now is None else now
    return any(known) and abs(present - int(moments[0])) <= tolerance_seconds


def _digest(body: bytes, secret: str, moment: str) -> str:
    return hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
