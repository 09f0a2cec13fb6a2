"""Numbers for Prometheus, read from the store when they are asked for: every replica tells the same."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from steep.server.service import Service
from steep.server.store.gauges import Gauges
from steep.server.store.savings import CHECKPOINTS_SAVED, STALL_MILLISECONDS
from steep.server.store.store import Store

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

LOOPS = ("scheduler", "watcher", "reaper", "limits", "scrub", "retention")
"""Those of which one replica acts at a time."""
RECENT_SECONDS = 3600.0
QUANTILES = (0.5, 0.9, 1.0)

Labels = tuple[str, ...]


def exposition(service: Service) -> tuple[bytes, str]:
    """The text that Prometheus reads, and its media type."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    tell, store, now = _Teller(CollectorRegistry()), service.store, service.now()
    counts = (((str(state),), count) for state, count in store.queue.counts().items())
    tell.gauges("jobs", "Jobs by state.", ("state",), counts)
    _queue(tell, store.gauges, now)
    _attempts(tell, store)
    _training(tell, store.gauges)
    stored = (((project.name,), project.stored_bytes) for project in store.projects.all())
    tell.gauges("stored_bytes", "Bytes of checkpoints and files.", ("project",), stored)
    tell.gauge("alerts_waiting", "Alerts that are still to be delivered.", store.outbox.waiting())
    takeovers = (((loop,), max(store.loops.turns(loop) - 1, 0)) for loop in LOOPS)
    tell.counts("lease_takeovers", "How often another replica took a loop over.", ("loop",), takeovers)
    tell.gauge("started_at_seconds", "When this replica started.", service.started_at)
    tell.gauge("event_streams", "Streams of events that are open at this replica.", service.num_streams)
    return generate_latest(tell.registry), CONTENT_TYPE_LATEST


class _Teller:
    """Fills a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    def gauge(self, name: str, meaning: str, value: float) -> None:
        self.gauges(name, meaning, (), [((), value)])

    def gauges(self, name: str, meaning: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> None:
        from prometheus_client import Gauge

        gauge = Gauge(f"steep_{name}", meaning, labels, registry=self.registry)
        for label, value in values:
            (gauge.labels(*label) if labels else gauge).set(value)

    def counts(self, name: str, meaning: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> None:
        from prometheus_client import Counter

        counter = Counter(f"steep_{name}", meaning, labels, registry=self.registry)
        for label, value in values:
            (counter.labels(*label) if labels else counter).inc(value)


def _queue(tell: _Teller, gauges: Gauges, now: float) -> None:
    waiting, waits = gauges.waiting(), gauges.waits(now - RECENT_SECONDS)
    tell.gauge("queue_jobs", "Jobs that wait for devices.", waiting.num_jobs)
    longest = 0.0 if waiting.since is None else max(now - waiting.since, 0.0)
    tell.gauge("queue_longest_wait_seconds", "How long the first of them has waited.", longest)
    quantiles = (((f"{share:g}",), waits[math.ceil(share * len(waits)) - 1]) for share in QUANTILES if waits)
    meaning = "How long jobs waited for their first devices, of those that got them within the last hour."
    tell.gauges("queue_wait_seconds", meaning, ("quantile",), quantiles)


def _attempts(tell: _Teller, store: Store) -> None:
    meaning = "Attempts by state and reason, those that have ended too; those of deleted jobs are left out."
    tell.gauges("attempts", meaning, ("state", "reason"), store.gauges.attempts().items())
    tell.gauge("attempts_fenced", "Attempts that may write no more because they were silent.", store.gauges.fenced())
    tell.gauge("devices_lent", "Devices that are lent.", store.queue.num_leases())


def _training(tell: _Teller, gauges: Gauges) -> None:
    paces = gauges.paces()
    labels = ("job", "project")
    speeds = _known((pace.job_id, pace.project, pace.tokens_per_second) for pace in paces)
    tell.gauges("job_tokens_per_second", "Training speed of running jobs.", labels, speeds.items())
    used = _known((pace.job_id, pace.project, pace.mfu) for pace in paces)
    tell.gauges(
        "job_mfu", "Model FLOPs utilisation of running jobs, where the GPU's peak is known.", labels, used.items()
    )
    tell.gauge("tokens_per_second", "Training speed of all running jobs together.", sum(speeds.values()))
    stall = gauges.counted(STALL_MILLISECONDS) / 1000
    tell.counts("checkpoint_stall_seconds", "How long training stood still for checkpoints.", (), [((), stall)])
    tell.counts("checkpoints_saved", "Checkpoints that were saved.", (), [((), gauges.counted(CHECKPOINTS_SAVED))])


def _known(values: Iterable[tuple[str, str, float]]) -> dict[Labels, float]:
    return {(job, project): value for job, project, value in values if math.isfinite(value)}
