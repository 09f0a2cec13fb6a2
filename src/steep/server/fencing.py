"""Fencing an attempt: its token opens nothing any more, and then its run directory does not either.

The token comes first, since what is decided about an attempt is decided in the database. Its devices stay lent until somebody
has seen that nothing of the worker is left.
"""

from __future__ import annotations

import logging

from steep.server.service import Service
from steep.spec.errors import OutOfSpace

log = logging.getLogger(__name__)


def fence(service: Service, job_id: str, number: int, detail: str) -> bool:
    """Fence an attempt. Returns whether it was open until now."""
    was_open = service.store.attempts.revoke(job_id, number, detail, service.now())
    raise_fence(service, job_id, number)
    return was_open


def raise_fence(service: Service, job_id: str, number: int) -> None:
    """See to it that a fenced attempt can commit nothing in its run directory. What the disk refuses is to be tried again."""
    try:
        service.run(job_id).fence.move(number + 1)
    except FileNotFoundError:
        log.info("%s/%d has no run directory any more", job_id, number)
    except (OSError, OutOfSpace) as error:
        log.warning("%s/%d: the fence cannot be moved now: %s", job_id, number, error)
