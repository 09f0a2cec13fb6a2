"""Queries whose rows are read all at once.

SQLite's driver lets other threads in at each row, and a busy server then waits as many times: fifty rows took ten times what it
costs to read them. So SQLite makes one text of all rows, beside the other threads.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic_core import from_json
from sqlalchemy import CompoundSelect, Connection, Row, Select, func, select

Values = Mapping[str, Any]
Query = Select[Any] | CompoundSelect[Any]


class AtOnce:
    """A query that is asked again and again, made once.

    Args:
        query: what to read: numbers, texts, what is true or false, and JSON, but no bytes.
        on_sqlite: the same where SQLite needs other words for it.
    """

    def __init__(self, query: Query, on_sqlite: Query | None = None) -> None:
        columns = (query if on_sqlite is None else on_sqlite).subquery().columns
        self._query = query
        self._text = select(func.json_group_array(func.json_array(*columns)))
        self._types = [column.type for column in columns]
        self._row = _row_type(tuple(columns.keys()))

    def plain(self, connection: Connection, values: Values | None = None) -> Sequence[Sequence[Any]]:
        """Rows as the database has them: JSON as its text, and what is true as a number on SQLite."""
        if connection.dialect.name == "sqlite":
            rows: list[list[Any]] = from_json(connection.execute(self._text, values).scalar_one())
            return rows
        found = connection.execute(self._query, values)
        assert found.cursor is not None
        return found.cursor.fetchall()

    def rows(self, connection: Connection, values: Values | None = None) -> Sequence[Any]:
        """Rows with their columns by name, as those of a result are."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self._query, values).all()
        rows: list[list[Any]] = from_json(connection.execute(self._text, values).scalar_one())
        for place, decode in self._decoders(connection):
            for row in rows:
                row[place] = decode(row[place])
        return list(map(self._row._make, rows))

    def _decoders(self, connection: Connection) -> list[tuple[int, Callable[[Any], Any]]]:
        found = (
            type_.dialect_impl(connection.dialect).result_processor(connection.dialect, None) for type_ in self._types
        )
        return [(place, decode) for place, decode in enumerate(found) if decode is not None]


@lru_cache(maxsize=256)
def _row_type(names: tuple[str, ...]) -> Any:
    row = namedtuple("_Row", names)  # type: ignore[misc]
    return type("_Row", (row,), {"__slots__": (), "_mapping": property(row._asdict)})  # as those of results have it


def read_at_once(connection: Connection, query: Select[Any]) -> Sequence[Row[Any]]:
    """The rows of a query that is made for this once."""
    return AtOnce(query).rows(connection) if connection.dialect.name == "sqlite" else connection.execute(query).all()
