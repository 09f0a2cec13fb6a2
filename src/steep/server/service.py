"""The service as one object: its settings, its store, its backends, and what its parts share. One in each process."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from steep.artifacts.files import make_directory
from steep.artifacts.rundir import RunDirectory
from steep.compute.contract import Backend
from steep.server.bell import Bell, News
from steep.server.intake import Intake
from steep.server.offers import offered_devices
from steep.server.orders import OrderDesk
from steep.server.places import QueuePlaces
from steep.server.secretbox import SecretBox
from steep.server.settings import ServerSettings
from steep.server.store.attempts import Told
from steep.server.store.projects import DEFAULT
from steep.server.store.store import Store
from steep.server.tracing import NoTraces, Traces
from steep.server.uses import Uses
from steep.spec.api.attempts import ReportsAnswer
from steep.spec.errors import InvalidInput


class Service:
    """What routes and loops work with. Everything in it may be used from any thread.

    Args:
        settings: as the operator wants it.
        store: the truth.
        backends: where workers run, by name.
        box: opens secrets.
        clock: the time, in seconds since the epoch.
    """

    def __init__(
        self,
        settings: ServerSettings,
        store: Store,
        backends: Mapping[str, Backend],
        box: SecretBox,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.store = store
        self.backends = backends
        self.box = box
        self.now = clock
        self.bell = Bell()
        self.news = News(store.events.last_id)
        self.order_desk = OrderDesk(store.orders.standing)
        self.intake = Intake(self._take_in)
        self.queue_places = QueuePlaces(store, lambda: [one for _, one in offered_devices(self.backends)])
        self.uses = Uses()
        self.traces: Traces = NoTraces()
        self.num_streams = 0
        self.started_at = clock()
        self.replica = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"

    @classmethod
    def open(cls, settings: ServerSettings) -> Self:
        """Open the data directory, the database and the local backend.

        Raises:
            InvalidInput: the data directory or the database cannot be used, or they do not belong together.
            ServerUnavailable: the database does not answer.
        """
        from steep.compute.local.backend import LocalBackend

        for directory in ("runs", "files", "logs"):
            make_directory(settings.data / directory)
        settings.data.chmod(0o700)
        store = Store.open(settings.database_url, currency=settings.prices.currency)
        try:
            store.projects.ensure(DEFAULT, time.time())
            box = _box(settings, store)
        except BaseException:
            store.close()
            raise
        local = LocalBackend(settings.data, cpu_slots=settings.cpu_slots, warm=settings.warm)
        return cls(settings, store, {local.name: local}, box)

    def run(self, job_id: str) -> RunDirectory:
        """A job's run directory."""
        return RunDirectory(self.settings.run_directory(job_id))

    def let_go(self) -> None:
        """Let those go who wait here for news or orders: the server ends, and they come again."""
        self.news.end()
        self.order_desk.end()

    def close(self) -> None:
        """Let go of everything. Workers go on."""
        self.intake.end()
        for backend in self.backends.values():
            close = getattr(backend, "close", None)
            if close is not None:
                close()
        self.store.close()
        self.traces.close()

    def _take_in(self, told: Sequence[Told]) -> Sequence[ReportsAnswer | Exception]:
        return self.store.attempts.record_many(told, self.now(), lease_seconds=self.settings.patience.lease)


def _box(settings: ServerSettings, store: Store) -> SecretBox:
    """What opens the secrets of this database.

    Raises:
        InvalidInput: the key in the data directory is another one.
    """
    place = settings.data / "secrets.key"
    box = SecretBox.at(place)
    if not store.secrets.is_known(box.fingerprint, time.time(), anew=settings.new_secrets_key):
        raise InvalidInput(
            "is not the one that this database's secrets are encrypted with",
            where=str(place),
            cure="Put that one there, or give --data the directory that it lies in. If it is lost for good, start once with "
            "--new-secrets-key, and store the secrets again.",
        )
    return box
