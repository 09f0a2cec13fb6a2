"""The loop that reads checkpoints back: each one soon after it was saved and then every few days, a little at a time.

A checkpoint may be deleted, or saved anew, while it is read. So one is called damaged only when it was found so twice, with
the same manifest, and one that is not there only when its run is, and nobody works there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from steep.artifacts.abandoned import steps_set_aside
from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.lineage import Lineage
from steep.artifacts.manifest import FileRecord
from steep.artifacts.scrubbing import read_back
from steep.server.removal import remove_checkpoint
from steep.server.service import Service
from steep.spec.api.checkpoints import CheckpointView
from steep.spec.errors import Conflict, DamagedArtifact, InvalidInput, NotFound, RunBusy

log = logging.getLogger(__name__)

TURN_SECONDS = 1.0
IDLE_SECONDS = 30.0
"""How long to look for nothing when nothing was due."""
AGAIN_SECONDS = 600.0
"""What cannot be read now is left alone for this long."""
MISSED_SECONDS = 86_400.0
"""That one was not there is remembered for this long."""

Key = tuple[str, int]


@dataclass
class _Reading:
    """A checkpoint that is being read.

    Args:
        view: what the catalog said when it began.
        files: what its manifest said; None: it cannot be read.
        pieces: read one after another.
        first: what was wrong when it was read the first time, if it is being read again.
    """

    view: CheckpointView
    files: dict[str, FileRecord] | None
    pieces: Iterator[int]
    first: str = ""

    @property
    def key(self) -> Key:
        return self.view.job_id, self.view.step


class Scrub:
    """One turn of it is `turn`, which reads what may be read in a second."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._checkpoints = service.store.checkpoints
        self._reading: _Reading | None = None
        self._look_at = 0.0
        self._left_until: dict[Key, float] = {}
        self._missed_at: dict[Key, float] = {}

    def turn(self) -> None:
        """Read on, and write down what was read to its end."""
        left_bytes = int(self._service.settings.scrub.bytes_per_second * TURN_SECONDS)
        while left_bytes > 0:
            reading = self._reading or self._begin()
            if reading is None:
                return
            self._reading = reading
            try:
                left_bytes -= self._read_on(reading)
            except BaseException:
                self._reading = None  # read as far as it was, and not as far as it is
                raise

    def _begin(self) -> _Reading | None:
        """The next one that is due, if there is one."""
        now, scrub = self._service.now(), self._service.settings.scrub
        if now < self._look_at:
            return None
        self._left_until = {key: until for key, until in self._left_until.items() if until > now}
        self._missed_at = {key: at for key, at in self._missed_at.items() if at > now - MISSED_SECONDS}
        due = self._checkpoints.unverified(
            now - scrub.every_seconds, limit=1 + len(self._left_until), saved_before=now - scrub.settle_seconds
        )
        chosen = next((view for view in due if (view.job_id, view.step) not in self._left_until), None)
        if chosen is None:
            self._look_at = now + IDLE_SECONDS
            return None
        return self._open(chosen)

    def _open(self, view: CheckpointView, first: str = "") -> _Reading:
        catalog = self._catalog(view)
        return _Reading(view, _files(catalog, view.step), read_back(catalog, view.step), first)

    def _read_on(self, reading: _Reading) -> int:
        """Read a piece. Returns its bytes."""
        try:
            return next(reading.pieces)
        except StopIteration:
            self._write(reading, "valid", f"step {reading.view.step} read back")
        except InvalidInput:
            self._looked_for(reading)
        except DamagedArtifact as error:
            self._wrong(reading, str(error))
        except OSError as error:
            log.warning("%s: step %d cannot be read now: %s", *reading.key, error)
            self._leave(reading)
        return 1

    def _wrong(self, reading: _Reading, what: str) -> None:
        """Read it once more; then it is damaged, unless it has become another one meanwhile."""
        if reading.first and _files(self._catalog(reading.view), reading.view.step) == reading.files:
            self._write(reading, "damaged", f"step {reading.view.step} is damaged: {what}. {self._cure(reading)}")
        else:
            self._reading = self._open(reading.view, first=what)

    def _looked_for(self, reading: _Reading) -> None:
        try:
            self._missing(reading)
        except (DamagedArtifact, OSError) as error:
            log.warning("%s: where step %d is cannot be told now: %s", *reading.key, error)
            self._leave(reading)

    def _missing(self, reading: _Reading) -> None:
        """It is not where it was saved: deleted or set aside, of which the report is on its way or was lost; or lost itself."""
        job_id, step = reading.key
        run = self._service.run(job_id)
        if not run.job_file.exists():
            log.warning("%s: its run directory is not there, so its checkpoints cannot be read back", job_id)
            self._leave(reading)
        elif Lineage.read(run).set_aside_at().get(step, 0.0) >= reading.view.created_at:
            if step in steps_set_aside(run.checkpoints):
                self._checkpoints.set_one_aside(job_id, step, reading.view.created_at, self._service.now())
            else:
                detail = f"step {step} was set aside when the job went back, and its space is freed"
                self._checkpoints.delete(job_id, step, 0, detail, self._service.now())
            self._reading = None
        elif self._may_be_at_work(job_id) or reading.key not in self._missed_at:
            self._missed_at.setdefault(reading.key, self._service.now())
            self._leave(reading)
        else:
            self._missing_again(reading)

    def _missing_again(self, reading: _Reading) -> None:
        """It is lost, unless somebody is about to delete it, or was and did not come to the end of that."""
        job_id, step = reading.key
        run = self._service.run(job_id)
        try:
            with run.lock():
                if step in run.catalog().condemned_steps():
                    remove_checkpoint(self._service, job_id, step, "deleted; that was cut off once")
                    self._reading = None
                else:
                    self._write(reading, "damaged", f"step {step} is not there any more. {self._cure(reading)}")
        except (RunBusy, Conflict, NotFound):
            self._leave(reading)

    def _may_be_at_work(self, job_id: str) -> bool:
        """Whether a worker may have deleted it just now; of a job that was deleted itself there is nothing to say."""
        try:
            return not self._service.store.jobs.get(job_id, self._service.now()).standing.is_terminal
        except NotFound:
            return True

    def _cure(self, reading: _Reading) -> str:
        """What to do about a damaged one."""
        job_id, step = reading.key
        valid = [
            view.step for view in self._checkpoints.list(job_id).items if view.state == "valid" and view.step != step
        ]
        rest = (
            f"the newest valid one is step {valid[-1]}" if valid else "the job has no other that is known to be valid"
        )
        copy = "Bring it back from its copy in the store, or delete it" if reading.view.uploaded else "Delete it"
        return (
            f"Nothing resumes or exports from it; {rest}. {copy} with `steep checkpoints delete {job_id} {step}`; "
            f"`steep checkpoints verify {job_id} {step}` looks again."
        )

    def _write(self, reading: _Reading, state: Literal["valid", "damaged"], detail: str) -> None:
        """What was read counts for what was there when it was begun, and for nothing that was saved since."""
        job_id, step = reading.key
        self._reading = None
        if state == "damaged":
            log.error("%s: %s", job_id, detail)
        try:
            now, saved_at = self._service.now(), reading.view.created_at
            self._checkpoints.verified(job_id, step, state, detail, now, saved_at=saved_at)
        except NotFound:
            log.info("%s was deleted while its step %d was read", job_id, step)

    def _leave(self, reading: _Reading) -> None:
        self._left_until[reading.key] = self._service.now() + AGAIN_SECONDS
        self._reading = None

    def _catalog(self, view: CheckpointView) -> CheckpointCatalog:
        return self._service.run(view.job_id).catalog()


def _files(catalog: CheckpointCatalog, step: int) -> dict[str, FileRecord] | None:
    """What the manifest says that there is to read; measured numbers, which it has too, may change meanwhile."""
    try:
        return catalog.get(step).files
    except (DamagedArtifact, InvalidInput):
        return None
