"""The header Idempotency-Key: a request that makes something may be sent again, and makes it once."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from steep.server.auth import Caller
from steep.server.store.ids import hash_of
from steep.server.store.repeats import Idempotency

RepeatKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=200,
        description="Names the request: sent again under the same key, it makes nothing new and answers the same.",
    ),
]


def repeat_of(key: str | None, text: str, caller: Caller, noun: str = "jobs") -> Idempotency | None:
    """What a request is known by; None: it names no key.

    Args:
        key: that it names.
        text: all that it asks for.
        caller: whoever asks; the keys of one project are apart from those of others.
        noun: what it makes.
    """
    return None if key is None else Idempotency(key, hash_of(text), scope=caller.project or "", noun=noun)
