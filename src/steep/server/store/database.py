"""The database: SQLite in a file, or PostgreSQL, behind two words: `read` and `write`.

A write is one whole transaction. On SQLite writers take turns (`BEGIN IMMEDIATE`, and a lock among the threads of this
process, which is fairer than waiting for the file); on PostgreSQL they lock the rows that they change. Always in this order,
so that nobody waits in a circle: project, job, attempt, the rest; the counter of events last.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    CursorResult,
    Delete,
    Engine,
    Executable,
    Insert,
    Result,
    Select,
    Table,
    Update,
    bindparam,
    create_engine,
    event,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from steep.server.store.columns import clean
from steep.server.store.tables import counters, deliveries, events, jobs
from steep.spec.errors import InvalidInput, ServerUnavailable
from steep.spec.events import EventKind

BUSY_TIMEOUT_MILLISECONDS = 30_000
FAILED_LINES = "lines"
"""In the data of an event: lines of alerts that it is not told to."""
_BEGIN = "steep_begin"  # execution option: how a transaction on SQLite begins


class Transaction:
    """A write in the making: its connection, its time, and the events that it will have caused.

    Events are numbered at the very end of it, under a lock that is held until it is committed. So their numbers grow in
    the order of commits, and who has read up to a number has missed none below it. A sequence would not do that.
    """

    def __init__(self, connection: Connection, now: float) -> None:
        self.connection = connection
        self.now = now
        self._events: list[dict[str, Any]] = []

    def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> Result[Any]:
        """Run a statement, with parameters or for many of them."""
        return self.connection.execute(statement, parameters)

    def change(self, statement: Update | Delete | Insert, parameters: Mapping[str, Any] | None = None) -> int:
        """Run a statement that changes rows; returns how many it did."""
        result = self.connection.execute(statement, parameters)
        assert isinstance(result, CursorResult)
        return result.rowcount

    def lock(self, statement: Select[Any]) -> Result[Any]:
        """Select rows that nobody else may change before this is over. New rows may refer to them meanwhile."""
        return self.execute(statement.with_for_update(key_share=True))

    def put(self, table: Table, values: Mapping[str, Any], *, add: Sequence[str] = (), keep: bool = False) -> bool:
        """Insert a row; where its key is there already, change it.

        Args:
            table: where.
            values: of the row, its key among them.
            add: columns whose value is added to that of the row that is there, instead of replacing it.
            keep: leave the row that is there as it is.

        Returns:
            Whether a row was inserted or changed.
        """
        maker = postgresql.insert if self.connection.dialect.name == "postgresql" else sqlite.insert
        statement = maker(table).values(**values)
        key = [column.name for column in table.primary_key]
        if keep:
            statement = statement.on_conflict_do_nothing(index_elements=key)
        else:
            new: dict[str, Any] = {name: statement.excluded[name] for name in values if name not in key}
            new |= {name: table.c[name] + statement.excluded[name] for name in add}
            statement = statement.on_conflict_do_update(index_elements=key, set_=new)
        # the number of rows is not told of an insert by every driver; the rows that it returns are
        return self.execute(statement.returning(table.c[key[0]])).first() is not None

    def emit(
        self,
        job: Any,
        kind: EventKind,
        message: str = "",
        *,
        attempt: int | None = None,
        data: Mapping[str, Any] | None = None,
        time: float | None = None,
    ) -> None:
        """Tell of something that happened to a job (a row of `jobs` with `id` and `project`)."""
        self._events.append(
            {
                "job_id": job.id,
                "project": job.project,
                "kind": str(kind),
                "time": self.now if time is None else time,
                "attempt": attempt,
                "message": message,
                "data": dict(data or {}),
            }
        )

    def flush(self) -> None:
        """Number the events and write them, with what is to be delivered of them."""
        if not self._events:
            return
        alerts = self._alerts()  # before the lock is taken, as everything that can be
        first = self.execute(_NUMBERS, {"taken": len(self._events)}).scalar_one() - len(self._events) + 1
        rows = [{"id": first + place, **row} for place, row in enumerate(self._events)]
        self.execute(_EVENTS, rows)
        new = {"created_at": self.now, "next_try_at": self.now, "tries": 0, "error": ""}
        if due := [
            {**new, "event_id": row["id"], "line": line, "alert": alert}
            for row in rows
            for place, alert in enumerate(alerts.get(row["job_id"], ()))
            if row["kind"] in alert["on"]
            and (line := f"{row['job_id']}/{place}") not in row["data"].get(FAILED_LINES, ())
        ]:
            self.execute(insert(deliveries), due)
        self._events = []

    def _alerts(self) -> dict[str, list[dict[str, Any]]]:
        concerned = {row["job_id"] for row in self._events}
        found = self.execute(_ALERTS, {"concerned": sorted(concerned)})
        return {row.id: row.alerts for row in found if row.alerts}


_NUMBERS = (
    update(counters)
    .where(counters.c.name == "events")
    .values(value=counters.c.value + bindparam("taken"))
    .returning(counters.c.value)
)
_EVENTS = insert(events)
_ALERTS = select(jobs.c.id, jobs.c.alerts).where(jobs.c.id.in_(bindparam("concerned", expanding=True)))


class Database:
    """A pool of connections to one database."""

    def __init__(self, url: str) -> None:
        """Open it; nothing is read or written yet.

        Args:
            url: `sqlite:///path/of/steep.db`, or `postgresql://user:password@host/name`.

        Raises:
            InvalidInput: it is neither.
        """
        parsed = _parse(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.where = parsed.render_as_string(hide_password=True)
        self.engine = _sqlite_engine(parsed) if self.is_sqlite else _postgresql_engine(parsed)
        self._turn = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one moment of the database, whatever is written meanwhile.

        Raises:
            ServerUnavailable: the database does not answer.
        """
        options: dict[str, Any] = (
            {_BEGIN: "BEGIN"} if self.is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        )
        with self._told(), self.engine.connect() as connection:
            connection = connection.execution_options(**options)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self, now: float, *, durable: bool = True) -> Iterator[Transaction]:
        """A transaction: all of it is written when the block ends, or nothing when it raises.

        Args:
            now: the time of all that it writes.
            durable: it outlives a power cut. What is not is safe when a process or PostgreSQL is killed; it is for what
                comes again by itself, such as reports, and spares SQLite the wait for the disk.

        Raises:
            ServerUnavailable: the database does not answer, or is busy.
        """
        with self._told(), self._turn if self.is_sqlite else nullcontext(), self.engine.connect() as connection:
            if self.is_sqlite:
                _set_durable(connection, durable)
                connection = connection.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
            with connection.begin():
                transaction = Transaction(connection, now)
                yield transaction
                transaction.flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong with the database, in words for users."""
        try:
            yield
        except (OperationalError, InterfaceError, NoConnectionFree) as error:
            raise ServerUnavailable(
                f"the database does not answer ({_in_short(error)})",
                where=self.where,
                cure="Try again; if it stays, look at the database and its disk.",
            ) from error
        except (DataError, OverflowError) as error:
            raise InvalidInput(f"a value is out of range ({_in_short(error)})", where="request") from error
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise ServerUnavailable(f"the connection was lost ({_in_short(error)})", where=self.where) from error


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except SQLAlchemyError as error:
        raise InvalidInput("is no database URL", where="database", cure=_URLS) from error
    name = parsed.get_backend_name()
    if name == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if name == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    raise InvalidInput(f"{name} is no database that Steep knows, or has no file", where="database", cure=_URLS)


_DRIVER = "Install the extra `server`, which brings psycopg and the client library of PostgreSQL."
_URLS = "Give sqlite:///path/of/steep.db or postgresql://user:password@host/name."


def _sqlite_engine(url: URL) -> Engine:
    assert url.database is not None
    Path(url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        pool_size=8,
        max_overflow=56,
        connect_args={"timeout": BUSY_TIMEOUT_MILLISECONDS / 1000, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says, and nowhere else
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MILLISECONDS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "cache_size = -4000",  # kB, of each connection
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


def _set_durable(connection: Connection, durable: bool) -> None:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}").close()


def _postgresql_engine(url: URL) -> Engine:
    try:
        import psycopg  # noqa: F401 - SQLAlchemy loads it by the URL
    except ImportError as error:
        raise InvalidInput(f"PostgreSQL cannot be used here ({error})", where="database", cure=_DRIVER) from error
    return create_engine(
        url,
        pool_size=10,
        max_overflow=30,
        pool_pre_ping=True,  # connections of before a restart of the database are replaced, not tried
        pool_timeout=10,
        connect_args={"connect_timeout": 10, "application_name": "steep"},
    )


def _in_short(error: Exception) -> str:
    return clean(str(getattr(error, "orig", None) or error).strip().partition("\n")[0])
