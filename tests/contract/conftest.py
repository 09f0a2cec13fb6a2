"""Databases that the suites of the store run on: the same tests on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.databases import Databases, clear, postgresql_databases, sqlite_databases, why_no_postgresql

from steep.server.store.store import Store


@pytest.fixture(scope="session")
def sqlite() -> Iterator[Databases]:
    with sqlite_databases() as databases:
        yield databases


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Databases]:
    if why := why_no_postgresql():
        pytest.skip(why)
    with postgresql_databases() as databases:
        yield databases


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest) -> Databases:
    found: Databases = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def opened() -> Iterator[dict[str, Store]]:
    """By kind of database, a store that stays open: statements that it has made once are quick from then on."""
    stores: dict[str, Store] = {}
    yield stores
    for store in stores.values():
        store.close()


@pytest.fixture
def store(databases: Databases, opened: dict[str, Store]) -> Store:
    """An empty store, on each kind of database."""
    if databases.kind not in opened:
        opened[databases.kind] = Store.open(databases.new(), migrate=False)
    clear(opened[databases.kind])
    return opened[databases.kind]
