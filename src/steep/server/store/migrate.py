"""Bring a database to the tables that this version knows. Any number of servers may do it at once; one of them does it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from steep.server.store.database import Database
from steep.spec.errors import InvalidInput

NEWEST = "0008"
"""The last of `migrations/versions`; a database that is there already needs no look at them, which spares a start 0.2 s."""

_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = 0x57EE9  # of PostgreSQL's advisory locks; any number that nobody else uses


def migrate(url: str) -> None:
    """Make the tables, or change older ones into today's. What is there stays.

    Raises:
        InvalidInput: the URL is none, or a newer version of Steep made these tables.
        ServerUnavailable: the database does not answer.
    """
    database = Database(url)
    try:
        bring_up_to_date(database)
    finally:
        database.close()


def bring_up_to_date(database: Database) -> None:
    """The same, for a database that is open."""
    with database.read() as connection:
        if _version(connection) == NEWEST:
            return
    with database.write(0.0) as transaction:
        connection = transaction.connection
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        if _version(connection) != NEWEST:
            _upgrade(connection)


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection, to: str = "head") -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, to)
    except CommandError as error:
        raise InvalidInput(
            f"the database was made by another version of Steep ({error})",
            where="database",
            cure="Install that version, or one after it.",
        ) from error
