"""Requests that make something, and are sent again because their answer was lost: what they make is made once."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from steep.server.store.database import Transaction
from steep.server.store.tables import idempotency
from steep.spec.errors import Conflict


@dataclass(frozen=True, slots=True)
class Idempotency:
    """Makes a repeated request answer as the first one did.

    Args:
        key: what the client calls the request.
        request_hash: of what was asked; another request with the same key is refused.
        scope: whose keys these are, such as a project's name.
        noun: what the request makes.
    """

    key: str
    request_hash: str
    scope: str = ""
    noun: str = "jobs"


def once_only(transaction: Transaction, wanted: Idempotency | None, new_id: str) -> str | None:
    """Claim a request before anything is made for it.

    Args:
        transaction: in which it is made too: should that fail, nothing is claimed.
        wanted: the request; None: it names no key, and makes something each time.
        new_id: of what it is about to make.

    Returns:
        The id of what the same request made before; None: it is to be made now.

    Raises:
        Conflict: the key was used for another request.
    """
    if wanted is None:
        return None
    values = {
        "scope": f"{wanted.noun}/{wanted.scope}",
        "key": wanted.key,
        "request_hash": wanted.request_hash,
        "response_id": new_id,
        "created_at": transaction.now,
    }
    if transaction.put(
        idempotency, values, keep=True
    ):  # two at once on PostgreSQL: one of them waits for the other here
        return None
    row = transaction.execute(
        select(idempotency).where(idempotency.c.scope == values["scope"], idempotency.c.key == wanted.key)
    ).one()
    if row.request_hash != wanted.request_hash:
        raise Conflict(
            "this idempotency key was used for another request",
            where="Idempotency-Key",
            cure="Take a new key for a new request.",
        )
    found: str = row.response_id
    return found
