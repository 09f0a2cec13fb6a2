"""The watcher: asks backends what became of workers, passes on requests to stop, and writes down how attempts ended.

What a worker could not send any more is read from its run directory first, so that nothing that it said is missing.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from pydantic import ValidationError

from steep.artifacts.outbox import Outbox
from steep.artifacts.redaction import Redaction
from steep.compute.contract import Backend, WorkerStatus
from steep.server.evaluating import record_scores
from steep.server.failure import Ending, Verdict
from steep.server.outcomes import read_outcome
from steep.server.service import Service
from steep.server.store.attempts import Living
from steep.server.tracing import ATTEMPT, JOB, Value
from steep.server.workersecrets import secrets_for_workers
from steep.spec.api.attempts import ReportsRequest
from steep.spec.api.common import Problem
from steep.spec.errors import EXIT_DONE, DamagedArtifact, Fenced, SteepError
from steep.spec.states import Reason, State

log = logging.getLogger(__name__)

Known = tuple[int, dict[str, int]]


class Watcher:
    """One turn of it is `turn`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store
        self._asked: set[tuple[str, int, float]] = set()

    def turn(self) -> None:
        """Look at every attempt that may have a process."""
        living = self._store.attempts.living()
        for attempt in living:
            backend = self._service.backends.get(attempt.backend)
            if backend is None or attempt.handle is None:
                continue
            try:
                self._look(attempt, attempt.handle, backend)
            except (SteepError, OSError) as error:  # one run's disk keeps nobody from looking at the others
                log.warning("%s/%d: %s", attempt.job_id, attempt.number, error)
        alive = {(each.job_id, each.number) for each in living}
        self._asked = {each for each in self._asked if each[:2] in alive}

    def _look(self, attempt: Living, handle: str, backend: Backend) -> None:
        status = backend.status(handle)
        if status.is_over:
            self._finish(attempt, status)
        elif status.phase == "unknown":
            if self._store.attempts.lose_contact(attempt.job_id, attempt.number, status.detail, self._service.now()):
                log.warning("%s/%d cannot be seen: %s", attempt.job_id, attempt.number, status.detail)
        else:
            self._pass_on(attempt, handle, backend)

    def _pass_on(self, attempt: Living, handle: str, backend: Backend) -> None:
        """A worker hears of a request with its next report; one that does not report is asked by its backend."""
        patience = self._service.settings.patience
        if attempt.revoked_at is not None:
            grace = 0.0
        elif attempt.standing.state is State.STOPPING:
            is_cancel = attempt.standing.reason is Reason.CANCEL_REQUESTED
            grace = patience.cancel if is_cancel else patience.stop
        else:
            return
        asked = (attempt.job_id, attempt.number, grace)
        if asked not in self._asked:
            backend.cancel(handle, grace_seconds=grace)
            self._asked.add(asked)

    def _finish(self, attempt: Living, status: WorkerStatus) -> None:
        run = self._service.run(attempt.job_id)
        self._catch_up(attempt)  # of a fenced one too: what stands in the run directory was let in there
        if status.exit_code == EXIT_DONE:  # before the end is written, after which nobody looks again
            record_scores(self._service, attempt.job_id)
            read_outcome(self._service, attempt.job_id)
        ending = Ending(status.exit_code, problem=last_word(run.path / "error.json"), detail=status.detail)
        verdict = self._store.attempts.finish(
            attempt.job_id, attempt.number, ending, self._service.now(), self._service.settings.policy
        )
        if verdict is None:
            return
        log.info("%s/%d ended (%s): %s", attempt.job_id, attempt.number, status.exit_code, verdict)
        self._trace(attempt, ending, verdict)
        self._service.bell.ring()

    def _trace(self, attempt: Living, ending: Ending, verdict: Verdict) -> None:
        known: dict[str, Value] = {JOB: attempt.job_id, ATTEMPT: attempt.number}
        known["steep.verdict"] = type(verdict).__name__.lower()
        if ending.exit_code is not None:
            known["steep.exit_code"] = ending.exit_code
        self._service.traces.past("attempt", attempt.started_at, self._service.now(), known)

    def _catch_up(self, attempt: Living) -> None:
        """Take in what lies in the run directory and was not sent."""
        outbox = Outbox(self._service.run(attempt.job_id), self._redaction(attempt.job_id))
        answer = self._tell(attempt, None, outbox)
        while answer is not None:
            answer = self._tell(attempt, answer, outbox)

    def _redaction(self, job_id: str) -> Redaction:
        """Of all that the worker was given and the server has. What cannot be opened any more, no new worker was given."""
        project = self._store.jobs.owner(job_id).project
        try:
            secrets = secrets_for_workers(self._service, project)
        except DamagedArtifact as error:
            log.warning("%s: the secrets of project %s cannot be taken out: %s", job_id, project, error)
            secrets = {}
        return Redaction.of({**os.environ, **secrets})

    def _tell(self, attempt: Living, known: Known | None, outbox: Outbox) -> Known | None:
        """One batch. Returns what the store has then; None when that is all."""
        request = ReportsRequest()
        if known is not None:
            outbox.move(*known)
            request = outbox.batch(to_the_end=True)
            if not (request.reports or request.logs):
                return None
        try:
            answer = self._store.attempts.catch_up(attempt.job_id, attempt.number, request, self._service.now())
        except Fenced:
            return None
        reached = (answer.next_report, dict(answer.next_log))
        return None if reached == known else reached


def last_word(path: Path) -> Problem | None:
    """What a worker left to say why it ended, if it left anything that can be read."""
    try:
        fields = json.loads(path.read_bytes())
        return Problem(
            title=fields["what"],
            status=422 if fields.get("exit_code") == 2 else 500,
            code=fields.get("code", ""),
            field=fields.get("where"),
            cure=fields.get("cure"),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, ValidationError):
        return None
