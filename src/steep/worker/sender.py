"""The worker's line to the server: a thread that sends what the run directory holds, and hears what the server wants.

The run directory comes first: the thread reads the files that the worker writes anyway, and shares nothing with the
worker but two words (stop, and why). So the worker neither waits for the server nor notices whether there is one. What
the server has, it says in each answer; whatever was lost on the way is sent again, and what came twice it passes over.

Each request is a heartbeat too, and an empty one is sent when there is nothing to say; an order that comes meanwhile is
heard by `listener.py`. A server that is away is tried again for ever. One that answers `fenced` has given the job to a
later attempt: this process then ends on the spot.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from steep.artifacts.outbox import BATCH_REPORTS, Outbox
from steep.artifacts.redaction import Redaction
from steep.artifacts.rundir import RunDirectory
from steep.spec.api.attempts import ReportsAnswer, ReportsRequest
from steep.spec.errors import (
    EXIT_STOPPED,
    Conflict,
    Fenced,
    Forbidden,
    InvalidInput,
    NotFound,
    SteepError,
    Unauthorized,
)
from steep.spec.reports import Report
from steep.spec.stages import Stage
from steep.worker.attempt import Attempt
from steep.worker.line import connect, words_of
from steep.worker.listener import Listener

if TYPE_CHECKING:
    from steep.client.wire import Wire
    from steep.worker.samples import Sampler

POLL_SECONDS = 0.5
SAMPLE_SECONDS = 10.0
FLUSH_SECONDS = 10.0
FLUSH_AWAY_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 15.0
TIMEOUT_SECONDS = 20.0
SHORTEST_LEASE_SECONDS = 0.3
CATCHING_UP_SECONDS = 0.05
"""Between full batches, and between tries while the worker ends."""

Asked = Callable[[], str | None]
_OF_THE_KEY = (Unauthorized, Forbidden, NotFound, Conflict)  # a server in disorder; nothing is wrong with what is sent


@contextmanager
def sending(run: RunDirectory, attempt: Attempt | None, environment: Mapping[str, str]) -> Iterator[Asked]:
    """While the block runs, its reports go to the server of the attempt. Without one, this does nothing.

    Args:
        run: that is worked on.
        attempt: which one this process is.
        environment: where secrets may stand that must not leave.

    Yields:
        What says why the server wants the worker to stop, or nothing.
    """
    if attempt is None or attempt.server is None or attempt.token is None:
        yield lambda: None
        return
    redact = Redaction.of({**environment, "STEEP_ATTEMPT_TOKEN": attempt.token})
    sender, listener = Sender(run, attempt, redact, _leave), Listener(run, attempt, _leave)
    sender.start()
    listener.start()
    try:
        yield lambda: sender.asked() or listener.asked()
    finally:
        listener.close()
        sender.close()


class Sender:
    """The thread. See the head of this file.

    Args:
        run: whose reports and lines are sent.
        attempt: with a server and a token.
        redact: takes secrets out of what leaves.
        leave: called when the attempt is fenced; should not return.
    """

    def __init__(
        self, run: RunDirectory, attempt: Attempt, redact: Callable[[str], str], leave: Callable[[str], None]
    ) -> None:
        self._run = run
        self._attempt = attempt
        self._leave = leave
        self._outbox = Outbox(run, redact)
        self._asked: str | None = None
        self._wake = threading.Event()
        self._until: float | None = None
        self._connected = False  # the server has said what it has
        self._away = False
        self._most = BATCH_REPORTS
        self._stage: Stage | None = None
        self._next_beat = self._next_sample = time.monotonic()
        # not to be waited for at exit: `close` says how long, and the next attempt catches up
        self._thread = threading.Thread(target=self._work, name="sender", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def asked(self) -> str | None:
        """Why the server wants the worker to save and end, or nothing."""
        return self._asked

    def close(self) -> None:
        """Send what is still to be sent, for a bounded time, and end. What is left is sent by the next attempt."""
        self._until = time.monotonic() + (FLUSH_AWAY_SECONDS if self._away else FLUSH_SECONDS)
        self._wake.set()
        self._thread.join(max(0.0, self._until - time.monotonic()) + 0.5)

    # ---- the thread

    def _work(self) -> None:
        from steep.client.blocking import finish

        wire = connect(self._attempt, TIMEOUT_SECONDS)
        try:
            self._talk(wire)
        finally:
            finish(wire.close())

    def _talk(self, wire: Wire) -> None:
        from steep.client.backoff import Backoff
        from steep.worker.samples import Sampler

        sampler, backoff = Sampler(self._run.path), Backoff(LONGEST_PAUSE_SECONDS)
        request: ReportsRequest | None = ReportsRequest()
        while request is not None:
            try:
                request = self._next(sampler)
                if request is not None:
                    self._hear(request, self._send(wire, request))
                    backoff.reset()
            except Fenced as fenced:
                self._run.fence.close(fenced.what)
                self._leave(fenced.what)
                return
            except InvalidInput as refused:
                self._refused(request, refused)
                self._rest(backoff.pause_seconds() if self._away else CATCHING_UP_SECONDS)
            except Exception as error:  # noqa: BLE001 - whatever happens here, the worker goes on
                self._fail(error)
                self._rest(backoff.pause_seconds())

    def _send(self, wire: Wire, request: ReportsRequest) -> ReportsAnswer:
        from steep.client.blocking import finish
        from steep.client.requests import JSON, Request, at

        path = at("attempts", self._attempt.job, self._attempt.number, "reports")
        body = request.model_dump_json(exclude_none=True).encode()
        return finish(wire.call(Request("POST", path, headers={"Content-Type": JSON}, body=body), ReportsAnswer))

    def _next(self, sampler: Sampler) -> ReportsRequest | None:
        """Wait until there is something to send; None when it is time to end."""
        while True:
            closing = self._until is not None
            if self._until is not None and time.monotonic() > self._until:
                return None
            request = ReportsRequest()
            if self._connected:
                request = self._outbox.batch(most=self._most, to_the_end=closing)
                self._stage = stage_after(request.reports, self._stage)
            now = time.monotonic()
            if request.reports or request.logs or not self._connected or now >= self._next_beat:
                if now < self._next_sample:
                    return request
                self._next_sample = now + SAMPLE_SECONDS
                return request.model_copy(update={"metrics": sampler.take(self._stage)})
            if closing:
                return None
            self._rest(min(POLL_SECONDS, self._next_beat - now))

    def _hear(self, request: ReportsRequest, answer: ReportsAnswer) -> None:
        self._outbox.move(answer.next_report, answer.next_log)
        self._connected, self._away = True, False
        self._next_beat = time.monotonic() + max(answer.lease_seconds, SHORTEST_LEASE_SECONDS) / 3
        self._asked = self._asked or words_of(answer.directive, answer.directive_detail)
        full = max(len(request.reports), len(request.logs)) >= self._most
        self._most = min(2 * self._most, BATCH_REPORTS)
        self._rest(CATCHING_UP_SECONDS if full else POLL_SECONDS)

    def _refused(self, request: ReportsRequest | None, error: InvalidInput) -> None:
        """Find out what the server does not take, by halves, and leave that out: the rest and the lease are worth more."""
        if request is None or not (request.reports or request.logs) or type(error) in _OF_THE_KEY:
            self._fail(error)
        elif self._most > 1:
            self._most = max(1, self._most // 2)
        else:
            print(f"the server does not take what is to be sent, which is left out: {error}", file=sys.stderr)
            self._outbox.leave_out(request)

    def _fail(self, error: Exception) -> None:
        """Say once what keeps things from being sent."""
        if self._away:
            return
        self._away = True
        if not isinstance(error, SteepError):
            traceback.print_exception(error)
        print(f"nothing can be sent now ({error}); it is kept and tried again", file=sys.stderr)

    def _rest(self, seconds: float) -> None:
        """Let time pass, but little of it once the worker ends."""
        if self._until is None:
            self._wake.wait(seconds)
        else:
            time.sleep(min(seconds, CATCHING_UP_SECONDS))


def stage_after(reports: Sequence[Report], before: Stage | None) -> Stage | None:
    """The stage that is worked on after these reports."""
    for report in reports:
        if report.kind == "stage":
            before = report.stage if report.event == "started" else None
    return before


def _leave(why: str) -> None:
    """End this process on the spot. Whatever its other threads are about must not be finished."""
    print(f"this attempt is over: {why}", file=sys.stderr, flush=True)
    os._exit(EXIT_STOPPED)
