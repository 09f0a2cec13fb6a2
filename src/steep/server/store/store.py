"""The store: the truth about jobs, attempts, leases, checkpoints and all that belongs to them, and the only writer of state.

    store = Store.open("sqlite:///steep.db")        # or postgresql://...; makes and migrates the tables
    job, is_new = store.jobs.submit(spec, now)
    begun = store.attempts.begin(job.id, "local", devices, now, lease_seconds=60)
    store.attempts.record_reports(job.id, begun.number, begun.token, request, now, lease_seconds=60)
    store.attempts.finish(job.id, begun.number, Ending(exit_code=0), now)

Each method is one whole transaction: it is written, or nothing of it is. Each is guarded, by an attempt's token or by the
state that it finds, takes the time from its caller, and may be called by any thread of any replica at any moment. What changes
a state writes its event too. No method reaches the network or a file.

Any of them may raise `ServerUnavailable`: the database does not answer. Then it is not known whether it was written, and
calling it again is safe: what was done already is refused (`Conflict`) or passed over.
"""

from __future__ import annotations

from typing import Self

from steep.server.store.attempts import Attempts
from steep.server.store.audit import Audit
from steep.server.store.checkpoints import Checkpoints
from steep.server.store.database import Database
from steep.server.store.events import Events
from steep.server.store.expectations import Expectations
from steep.server.store.files import Files
from steep.server.store.gauges import Gauges
from steep.server.store.jobs import Jobs
from steep.server.store.keys import Keys
from steep.server.store.logs import Logs
from steep.server.store.loops import Loops
from steep.server.store.migrate import bring_up_to_date
from steep.server.store.orders import Orders
from steep.server.store.outbox import Outbox
from steep.server.store.projects import Projects
from steep.server.store.queue import Queue
from steep.server.store.retention import Retention
from steep.server.store.samples import Samples
from steep.server.store.secrets import Secrets
from steep.server.store.tokens import Tokens
from steep.spec.errors import ServerUnavailable


class Store:
    """Everything that is kept, by noun."""

    def __init__(self, database: Database, currency: str = "USD") -> None:
        self.database = database
        self.projects = Projects(database)
        self.keys = Keys(database)
        self.jobs = Jobs(database, currency)
        self.queue = Queue(database)
        self.expectations = Expectations(database)
        self.gauges = Gauges(database)
        self.attempts = Attempts(database)
        self.tokens = Tokens(database)
        self.events = Events(database)
        self.logs = Logs(database)
        self.orders = Orders(database)
        self.samples = Samples(database)
        self.checkpoints = Checkpoints(database)
        self.files = Files(database)
        self.secrets = Secrets(database)
        self.audit = Audit(database)
        self.outbox = Outbox(database)
        self.loops = Loops(database)
        self.retention = Retention(database)

    @classmethod
    def open(cls, url: str, *, migrate: bool = True, currency: str = "USD") -> Self:
        """The store in a database, whose tables are made, or brought to this version, first.

        Args:
            url: `sqlite:///path/of/steep.db`, or `postgresql://user:password@host/name`.
            migrate: whether to see to the tables; False where that was done.
            currency: of what jobs cost, as the server's prices have it.

        Raises:
            InvalidInput: the URL is none, or a newer version of Steep made the tables.
            ServerUnavailable: the database does not answer.
        """
        database = Database(url)
        try:
            if migrate:
                bring_up_to_date(database)
        except BaseException:
            database.close()
            raise
        return cls(database, currency)

    def is_ready(self) -> bool:
        """Whether the database answers."""
        try:
            self.events.last_id()
        except ServerUnavailable:
            return False
        return True

    def close(self) -> None:
        """Close all connections."""
        self.database.close()
