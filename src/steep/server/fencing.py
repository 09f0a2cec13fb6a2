"""Fencing an attempt: its token opens nothing any more, and then its run directory does not either.

The token comes first, since what is decided about an attempt is decided in the database. Its devices stay lent until somebody
has seen that nothing of the worker is left.
"""

from __future__ import annotations

import logging

from steep.server.service import Service
from steep.spec.errors import OutOfSpace

log = logging.getLogger(__name__)


def fence(service: Service, job_id: str, number: int, detail: str, *, if_silent: bool = False) -> bool:
    """Fence an attempt. Returns whether it was open until now.

    Args:
        service: whose it is.
        job_id: its job.
        number: of the attempt.
        detail: why, as a sentence.
        if_silent: only if it is still not heard of, which is looked at as it is done.
    """
    if not service.store.attempts.revoke(job_id, number, detail, service.now(), if_silent=if_silent):
        return False
    raise_fence(service, job_id, number)
    return True


def raise_fence(service: Service, job_id: str, number: int) -> None:
    """See to it that a fenced attempt can commit nothing in its run directory. What the disk refuses is to be tried again."""
    try:
        service.run(job_id).fence.move(number + 1)
    except FileNotFoundError:
        log.info("%s/%d has no run directory any more", job_id, number)
    except (OSError, OutOfSpace) as error:
        log.warning("%s/%d: the fence cannot be moved now: %s", job_id, number, error)
