"""Alerts on their way: what one says, what it is when it does not arrive, and when it is tried again. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steep.spec.alerts import Notification

if TYPE_CHECKING:
    from steep.server.store.outbox import Delivery

FIRST_DELAY_SECONDS = 5.0
"""Before the second try; each further one waits twice as long."""
LONGEST_DELAY_SECONDS = 3600.0
REFUSED_SECONDS = 3600.0
"""What its receiver refuses is tried for this long: until then somebody may have mended the receiver."""
SILENT_SECONDS = 86_400.0
"""What its receiver does not answer is tried for this long."""


def notification_of(delivery: Delivery) -> Notification:
    """What a delivery tells its receiver, the same each time that it is tried."""
    return Notification(id=delivery.id, event=delivery.event, job_name=delivery.job_name, project=delivery.project)


class Undelivered(Exception):
    """An alert did not arrive.

    Args:
        why: a clause, for people.
        refused: the receiver answered, and does not want it; else nobody answered, or nobody could now.
    """

    def __init__(self, why: str, *, refused: bool = False) -> None:
        super().__init__(why)
        self.refused = refused


def next_try_at(delivery: Delivery, *, refused: bool, now: float) -> float | None:
    """When to try an alert again that did not arrive, or None: it is given up."""
    delay = min(FIRST_DELAY_SECONDS * 2.0 ** min(delivery.tries - 1, 30), LONGEST_DELAY_SECONDS)
    patience = REFUSED_SECONDS if refused else SILENT_SECONDS
    return None if now + delay > delivery.since + patience else now + delay
