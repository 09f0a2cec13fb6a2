"""What workers say. Their tokens open nothing else."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from steep.server.auth import Here, Token
from steep.server.routes.answers import answer, problems
from steep.spec.api import ReportsAnswer, ReportsRequest

router = APIRouter(prefix="/attempts", tags=["attempts"])


@router.post(
    "/{job}/{number}/reports",
    summary="Reports of a worker, and its heartbeat",
    response_model=ReportsAnswer,
    responses=problems(409, 413),
)
def report(
    here: Here,
    token: Token,
    job: Annotated[str, Path(description="Id of the job.", max_length=100)],
    number: Annotated[int, Path(description="Number of the attempt.", ge=1, le=2**31 - 1)],
    request: ReportsRequest,
) -> Response:
    """The answer says what the server has, so that nothing need be sent twice, and what it wants of the worker. `fenced`
    (409) says that the attempt is over: whatever works on it ends at once and writes nothing more."""
    lease = here.settings.patience.lease
    return answer(here.store.attempts.record_reports(job, number, token, request, here.now(), lease_seconds=lease))
