"""Pages of lists: which one is asked for, and what is found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, func, literal, select, tuple_

from steep.server.store.atonce import read_at_once
from steep.spec.api.common import Page
from steep.spec.errors import InvalidInput

Item = TypeVar("Item")

MAX_PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page, in what order.

    Args:
        page: from 1.
        page_size: rows of a page, at most `MAX_PAGE_SIZE`.
        sort_by: name of a field; each list says which ones it knows. None is its own order.
        descending: largest, or latest, first. None: as is usual for that field.
        include_total: count all rows of the list too.
        after: id of a row, see `find`; the page begins behind it, wherever that row is now.
    """

    page: int = 1
    page_size: int = 50
    sort_by: str | None = None
    descending: bool | None = None
    include_total: bool = False
    after: str | int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of a page, whether there are more after it, and how many there are in all if that was asked."""

    rows: Sequence[Row[Any]]
    has_more: bool
    total: int | None

    def page(self, asked: PageRequest, items: Iterable[Item]) -> Page[Item]:
        """The page as the API has it, with what was made of the rows."""
        return Page(
            items=tuple(items), page=asked.page, page_size=asked.page_size, has_more=self.has_more, total=self.total
        )


FIRST_PAGE = PageRequest()


def find(
    connection: Connection,
    query: Select[Any],
    page: PageRequest,
    sortable: Mapping[str, ColumnElement[Any]],
    tie: ColumnElement[Any],
    *,
    count: Select[Any] | None = None,
) -> Found:
    """Read a page.

    Args:
        connection: where.
        query: all rows of the list, unordered.
        page: which page.
        sortable: columns by the names that one may sort by; the first is the list's own order.
        tie: decides between rows that are equal in that, so that none is on two pages; unique. It is a row's id.
        count: counts the rows of the list; by default made of the query, with all that it joins.

    Raises:
        InvalidInput: there is no such page, no such field, or no row of that id.
    """
    if page.page < 1 or not 1 <= page.page_size <= MAX_PAGE_SIZE:
        raise InvalidInput(
            f"page {page.page} of {page.page_size} rows cannot be had",
            where="page",
            cure=f"Pages count from 1 and have 1 to {MAX_PAGE_SIZE} rows.",
        )
    name = page.sort_by or next(iter(sortable))
    if name not in sortable:
        raise InvalidInput(f"cannot sort by {name!r}", where="sort_by", cure=f"Choose among {', '.join(sortable)}.")
    column = sortable[name]
    descending = name.endswith(("_at", "priority", "time")) if page.descending is None else page.descending
    if page.after is not None:
        query = query.where(_beyond(connection, query, column, tie, page.after, descending))
    order = column.desc() if descending else column.asc()
    if getattr(column, "nullable", True):  # where no row is without a value, an index gives the order
        order = order.nulls_last()
    wanted = query.order_by(order, tie.desc() if descending else tie.asc()).limit(page.page_size + 1)
    wanted = wanted.offset((page.page - 1) * page.page_size)
    rows = read_at_once(connection, wanted)
    total = None
    if page.include_total:
        counted = select(func.count()).select_from(query.subquery()) if count is None else count
        total = connection.execute(counted).scalar_one()
    return Found(rows[: page.page_size], len(rows) > page.page_size, total)


def _beyond(
    connection: Connection,
    query: Select[Any],
    column: ColumnElement[Any],
    tie: ColumnElement[Any],
    after: str | int,
    descending: bool,
) -> ColumnElement[bool]:
    """Whether a row comes behind the one of an id, in a column that has no empty places.

    That one must be of the same list: of what is in no list that one may see nobody learns that it is there.
    """
    if column is tie:
        return tie < after if descending else tie > after
    value = connection.execute(query.with_only_columns(column).where(tie == after)).scalar_one_or_none()
    if value is None:
        raise InvalidInput(f"there is no {after}", where="after", cure="Take the id of an item of an earlier answer.")
    this, last = tuple_(column, tie), tuple_(literal(value, column.type), literal(after, tie.type))
    return this < last if descending else this > last


def containing(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Whether a column's text has this text in it, whatever their case."""
    escaped = text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return column.ilike(f"%{escaped}%", escape="\\")
