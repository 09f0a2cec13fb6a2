"""All loops of a server, begun and ended together."""

from __future__ import annotations

from steep.server.loops.alerts import AlertsLoop
from steep.server.loops.limits import LimitsLoop
from steep.server.loops.loop import Loop
from steep.server.loops.reaper import Reaper
from steep.server.loops.retention import RetentionLoop
from steep.server.loops.scheduler import Scheduler
from steep.server.loops.scrub import TURN_SECONDS, Scrub
from steep.server.loops.watcher import Watcher
from steep.server.service import Service

SCHEDULE_SECONDS = 2.0
REST = 3.0
"""Times the length of a turn: a quarter of the time at most goes to deciding, and a quarter to watching."""
REAP_SECONDS = 1.0
LIMIT_SECONDS = 5.0
ALERT_SECONDS = 1.0
RETENTION_SECONDS = 600.0
USES_SECONDS = 10.0


class Loops:
    """The loops of one server."""

    def __init__(self, service: Service) -> None:
        patience, bell = service.settings.patience, service.bell
        self._all = (
            Loop("scheduler", service, Scheduler(service).turn, every_seconds=SCHEDULE_SECONDS, bell=bell, rest=REST),
            Loop("watcher", service, Watcher(service).turn, every_seconds=patience.look, bell=bell, rest=REST),
            Loop("reaper", service, Reaper(service).turn, every_seconds=REAP_SECONDS),
            Loop("limits", service, LimitsLoop(service).turn, every_seconds=LIMIT_SECONDS),
            Loop("alerts", service, AlertsLoop(service).turn, every_seconds=ALERT_SECONDS, alone=False),
            Loop("scrub", service, Scrub(service).turn, every_seconds=TURN_SECONDS),
            Loop("uses", service, lambda: _count_uses(service), every_seconds=USES_SECONDS, alone=False),
            Loop("retention", service, RetentionLoop(service).turn, every_seconds=RETENTION_SECONDS),
        )

    def start(self) -> None:
        """Begin all of them."""
        for loop in self._all:
            loop.start()

    def end(self) -> None:
        """End all of them, each after its turn. Workers go on."""
        for loop in self._all:
            loop.end()
        for loop in self._all:
            loop.join()


def _count_uses(service: Service) -> None:
    """Write down how often keys were used."""
    counts = service.uses.take()
    if counts:
        service.store.keys.count_use(counts, service.now())
