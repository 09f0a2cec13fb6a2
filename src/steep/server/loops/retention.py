"""The loop that lets go: of old news, and of checkpoints that a project does not want to keep once their job has ended."""

from __future__ import annotations

import logging

from steep.server.keeping import prune, told
from steep.server.service import Service
from steep.spec.errors import Conflict, DamagedArtifact, InvalidInput

log = logging.getLogger(__name__)


class RetentionLoop:
    """One turn of it is `turn`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store

    def turn(self) -> None:
        """Delete rows until no old ones are left; then checkpoints, job by job."""
        while self._store.retention.prune(self._service.now()):
            continue
        for one in self._store.projects.prunable(self._service.now()):
            why = f"deleted: project {one.project} keeps the last {one.keep_last} and the best {one.keep_best}"
            try:
                pruned = prune(self._service, one.job_id, keep_last=one.keep_last, keep_best=one.keep_best, why=why)
            except (Conflict, InvalidInput, DamagedArtifact, OSError) as error:
                log.warning("%s: its checkpoints are left for now: %s", one.job_id, error)
                continue
            if pruned.steps or pruned.aside_steps:
                log.info("%s: %s", one.job_id, told(pruned))
