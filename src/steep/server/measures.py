"""Numbers for Prometheus, read from the store when they are asked for: every replica tells the same."""

from __future__ import annotations

from collections import Counter

from steep.server.service import Service


def exposition(service: Service) -> tuple[bytes, str]:
    """The text that Prometheus reads, and its media type."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
    from prometheus_client import Counter as Count

    registry, store, now = CollectorRegistry(), service.store, service.now()

    def gauge(name: str, meaning: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"steep_{name}", meaning, labels, registry=registry)

    jobs = gauge("jobs", "Jobs by state.", ("state",))
    for state, count in store.queue.counts().items():
        jobs.labels(str(state)).set(count)
    attempts = gauge("attempts", "Living attempts by state and reason.", ("state", "reason"))
    for (standing, reason), count in Counter(
        (str(one.standing.state), str(one.standing.reason)) for one in store.attempts.living()
    ).items():
        attempts.labels(standing, reason).set(count)
    waiting = store.queue.snapshot(now).waiting
    gauge("queue_jobs", "Jobs that wait for devices.").set(len(waiting))
    gauge("queue_longest_wait_seconds", "How long the first of them has waited.").set(
        max((now - job.queued_at for job in waiting), default=0.0)
    )
    gauge("devices_lent", "Devices that are lent.").set(len(store.queue.leases()))
    gauge("alerts_waiting", "Alerts that are still to be delivered.").set(store.outbox.waiting())
    stored = gauge("stored_bytes", "Bytes of checkpoints and files.", ("project",))
    for project in store.projects.all():
        stored.labels(project.name).set(project.stored_bytes)
    turns = Count("steep_loop_turns", "How often a loop changed hands.", ("loop",), registry=registry)
    for loop in ("scheduler", "watcher", "reaper", "limits", "retention"):
        turns.labels(loop).inc(store.loops.turns(loop))
    gauge("started_at_seconds", "When this replica started.").set(service.started_at)
    gauge("event_streams", "Streams of events that are open at this replica.").set(service.num_streams)
    return generate_latest(registry), CONTENT_TYPE_LATEST
