"""What workers say. Their tokens open nothing else."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from steep.server.auth import Here, Token
from steep.server.promises import PromisingRoute
from steep.server.routes.answers import answer, problems
from steep.server.store.attempts import Told
from steep.server.store.orders import AttemptName
from steep.spec.api.attempts import OrderAnswer, ReportsAnswer, ReportsRequest

router = APIRouter(prefix="/attempts", tags=["attempts"], route_class=PromisingRoute)

LONGEST_WAIT_SECONDS = 60.0

Job = Annotated[str, Path(description="Id of the job.", max_length=100)]
Number = Annotated[int, Path(description="Number of the attempt.", ge=1, le=2**31 - 1)]


@router.post(
    "/{job}/{number}/reports",
    summary="Reports of a worker, and its heartbeat",
    response_model=ReportsAnswer,
    responses=problems(409, 413),
)
async def report(here: Here, token: Token, job: Job, number: Number, request: ReportsRequest) -> Response:
    """The answer says what the server has, so that nothing need be sent twice, and what it wants of the worker. `fenced`
    (409) says that the attempt is over: whatever works on it ends at once and writes nothing more."""
    return answer(await here.intake.take(Told(job, number, token, request)))


@router.get(
    "/{job}/{number}/orders",
    summary="What the server wants of a worker",
    response_model=OrderAnswer,
    responses=problems(409),
)
async def orders(
    here: Here,
    token: Token,
    job: Job,
    number: Number,
    wait_seconds: Annotated[
        float, Query(ge=0, le=LONGEST_WAIT_SECONDS, description="For how long the answer may wait for an order.")
    ] = 0.0,
) -> Response:
    """The answer comes as soon as there is an order, so that one reaches a worker that has nothing to report. It renews no
    lease. `fenced` (409) as in the answer to reports."""
    order = await asyncio.to_thread(here.store.orders.wanted, job, number, token)
    if order.directive == "none" and wait_seconds > 0:
        order = await here.order_desk.wait_for(AttemptName(job, number), wait_seconds)
    return answer(order)
