"""What a job came to, read from its run directory into the store."""

from __future__ import annotations

import logging

from steep.server.service import Service
from steep.spec.api.jobs import Outcome
from steep.spec.errors import SteepError

log = logging.getLogger(__name__)


def read_outcome(service: Service, job_id: str) -> None:
    """Write down what `results.json` says was selected. A damaged file is told of, and changes nothing.

    Doing it twice is doing it once. A job that was cancelled when its work was complete has selected something too.
    """
    run = service.run(job_id)
    try:
        results = run.results()
    except SteepError as error:
        log.warning("%s: %s", job_id, error)
        return
    if results is None:
        return
    selected = results.selected
    outcome = Outcome(
        selected="" if selected is None else selected.label,
        selected_step=None if selected is None else selected.step,
        gain=None if selected is None else selected.gain,
        forgetting=None if selected is None or not results.can_forget else selected.forgetting,
        forgetting_budget=results.forgetting_budget,
        selection_reason=results.selection_reason,
        has_export=(run.export / "config.json").exists(),
    )
    service.store.jobs.set_outcome(job_id, outcome, service.now())
    service.store.checkpoints.select(job_id, outcome.selected_step, service.now())
