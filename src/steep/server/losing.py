"""The way out for an attempt whose machine is gone for good: nobody but a person can tell that nothing of it runs any more."""

from __future__ import annotations

from steep.server.failure import Ending
from steep.server.service import Service
from steep.spec.errors import Conflict
from steep.spec.units import format_seconds


def declare_lost(service: Service, job_id: str, who: str) -> None:
    """End the attempt of a job as one whose worker is gone: its devices are lent again, and the job goes on or ends as asked.

    Args:
        service: of the job.
        job_id: the job.
        who: says so.

    Raises:
        Conflict: it has no attempt, one that is not fenced, or one of which its backend knows what has become.
    """
    attempt = next((one for one in service.store.attempts.living() if one.job_id == job_id), None)
    if attempt is None:
        raise Conflict("no worker of the job can be lost: it has no attempt now", where=job_id)
    if attempt.revoked_at is None:
        patience = format_seconds(service.settings.patience.unreachable)
        raise Conflict(
            f"attempt {attempt.number} may still be heard of",
            where=job_id,
            cure=f"Wait: once it was silent for {patience} beyond its lease it is fenced, and may be declared lost.",
        )
    backend = service.backends.get(attempt.backend)
    if backend is not None and attempt.handle is None:
        raise Conflict(f"attempt {attempt.number} is still looked for", where=job_id, cure="Wait a moment.")
    if backend is not None and attempt.handle is not None:
        status = backend.status(attempt.handle)
        if status.phase != "unknown":
            raise Conflict(
                f"the worker of attempt {attempt.number} is not lost: it is {status.phase}",
                where=job_id,
                cure="Wait: the service ends it by itself.",
            )
    ending = Ending(None, detail=f"its machine is gone, says {who}")
    service.store.attempts.finish(job_id, attempt.number, ending, service.now(), service.settings.policy)
    service.bell.ring()
