"""Checkpoints for tests of what is done with them: small real ones on disk, and in the catalog."""

from __future__ import annotations

import time
from pathlib import Path

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.server.failure import Ending
from steep.server.secretbox import SecretBox
from steep.server.service import Service
from steep.server.settings import ServerSettings
from steep.server.store.ids import new_id
from steep.server.store.store import Store
from steep.spec.api.attempts import ReportsRequest
from steep.spec.api.checkpoints import CheckpointView
from steep.spec.events import Event, EventKind
from steep.spec.job import JobSpec
from steep.spec.reports import CheckpointReport, EvaluationReport, Report

WEIGHTS = "weights.safetensors"


class Shelf:
    """A service without a web server, and jobs with checkpoints. Its clock stands still until it is moved."""

    def __init__(self, data: Path, **settings: object) -> None:
        (data / "runs").mkdir(exist_ok=True)
        made = ServerSettings(data=data, **settings)  # type: ignore[arg-type]
        self.store = Store.open(made.database_url)
        self.now = float(int(time.time()))  # as exact in the database as here
        self.service = Service(made, self.store, {}, SecretBox.at(data / "secrets.key"), lambda: self.now)

    def job(
        self, *steps: int, project: str = "default", ended: bool = True, size: int = 1000, source: str = "hf://org/x"
    ) -> str:
        """A job that saved checkpoints of so many bytes, each better than the one before until half of them."""
        values = {
            "name": "kept",
            "base": "org/x",
            "corpus": {"sources": [source]},
            "service": {"project": project},
        }
        spec, job_id = JobSpec.model_validate(values), new_id("job")
        self.store.jobs.submit(spec, self.now, job_id=job_id)
        run = self.service.run(job_id)
        run.path.mkdir()
        run.write_spec(spec)
        begun = self.store.attempts.begin(job_id, "none", [], self.now, lease_seconds=60)
        reports: list[Report] = [measured(0, 2.0)]
        for number, step in enumerate(steps):
            save(run.catalog(), step, size)
            reports += [
                CheckpointReport(step=step, event="saved", size_bytes=size, tokens_seen=step, time=self.now),
                measured(step, 1.0 + abs(number - len(steps) // 2) / 10),
            ]
        numbered = tuple(one.model_copy(update={"sequence": place}) for place, one in enumerate(reports))
        request = ReportsRequest(reports=numbered)
        self.store.attempts.record_reports(job_id, 1, begun.token, request, self.now, lease_seconds=60)
        if ended:
            self.store.attempts.finish(job_id, 1, Ending(exit_code=0), self.now)
        return job_id

    def views(self, job_id: str) -> dict[int, CheckpointView]:
        return {view.step: view for view in self.store.checkpoints.list(job_id).items}

    def events(self, job_id: str, kind: EventKind) -> list[Event]:
        return self.store.events.after(job_id=job_id, kinds=[kind])

    def weights(self, job_id: str, step: int) -> Path:
        return self.service.run(job_id).catalog().path(step) / WEIGHTS

    def spoil(self, job_id: str, step: int) -> None:
        """One bit of it rots."""
        path = self.weights(job_id, step)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def save(catalog: CheckpointCatalog, step: int, size: int, byte: bytes = b"w") -> None:
    """Commit a checkpoint."""
    staging = catalog.stage(step)
    (staging / WEIGHTS).write_bytes(byte * size)
    prints = dict.fromkeys(("spec_fingerprint", "order_fingerprint", "model_fingerprint"), "f")
    catalog.commit(step, tokens_seen=step, cursor=step, **prints)


def measured(step: int, bpb: float) -> EvaluationReport:
    """What was measured of a model at a step."""
    return EvaluationReport(step=step, tokens_seen=step, domain_bpb={"own": bpb}, general_bpb={"web": 1.0})
