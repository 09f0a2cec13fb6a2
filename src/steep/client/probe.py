"""Whether a server is there, before anybody shows it a key: it answers, it is ready, its clock goes as ours."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Probe:
    """What a server answered.

    Args:
        ready: it can work: its database answers.
        status: of the answer, by HTTP.
        skew_seconds: its clock is ahead of ours by this much, to about a second; None where it does not say.
    """

    ready: bool
    status: int
    skew_seconds: float | None = None


def probe(server: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Probe | None:
    """Ask a server whether it is ready; None when nothing answers at that address."""
    here = urlsplit(server).hostname in ("localhost", "127.0.0.1", "::1")
    asked = time.time()
    try:
        with httpx.Client(trust_env=not here, verify=server.startswith("https:"), timeout=timeout_seconds) as client:
            answer = client.get(f"{server.rstrip('/')}/readyz")
    except httpx.HTTPError:
        return None
    ours = (asked + time.time()) / 2
    return Probe(answer.status_code == 200, answer.status_code, _skew(answer.headers.get("date"), ours))


def _skew(date: str | None, ours: float) -> float | None:
    if date is None:
        return None
    try:
        return parsedate_to_datetime(date).timestamp() + 0.5 - ours  # it is written in whole seconds, cut off
    except ValueError:
        return None
