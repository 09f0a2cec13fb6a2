"""Whoever starts a server finds its key where the command line looks for it, and no other server's key is lost for it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from steep.client.config import Settings, config_file, read_config, write_config
from steep.server.localkey import ensure_key
from steep.server.secretbox import SecretBox
from steep.server.service import Service
from steep.server.settings import ServerSettings
from steep.server.store.store import Store


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return config_file()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "data").mkdir()
    settings = ServerSettings(data=tmp_path / "data", port=8470)
    store = Store.open(settings.database_url)
    yield Service(settings, store, {}, SecretBox.at(tmp_path / "secrets.key"))
    store.close()


def at(service: Service, port: int, address: str | None = None) -> Service:
    service.settings = replace(service.settings, port=port, public_address=address)
    return service


def known(config: Path) -> Settings:
    found = read_config(config)
    assert found is not None
    return found


def test_the_first_key_is_written_for_its_user_alone(service: Service, config: Path) -> None:
    assert ensure_key(service, for_user=True) == config
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    key = service.store.keys.authenticate(known(config).key, service.now())
    assert key is not None
    assert key.role == "admin"


def test_a_server_that_moved_to_another_port_is_found_there_with_the_same_key(service: Service, config: Path) -> None:
    ensure_key(service, for_user=True)
    before = known(config)
    assert ensure_key(at(service, 9999), for_user=True) == config
    assert known(config) == Settings("http://127.0.0.1:9999", before.key)
    assert known(service.settings.data / "admin.toml") == known(config)


@pytest.mark.parametrize("other", ["http://127.0.0.1:1234", "https://steep.example.org"])
def test_the_key_of_another_server_stays(service: Service, config: Path, other: str) -> None:
    write_config(config, Settings(other, "steep_of-another-server"))
    assert ensure_key(service, for_user=True) == service.settings.data / "admin.toml"
    assert known(config) == Settings(other, "steep_of-another-server")


def test_the_address_of_this_server_that_others_see_stays(service: Service, config: Path) -> None:
    ensure_key(service, for_user=True)
    outside = Settings("https://steep.example.org", known(config).key)
    write_config(config, outside)
    ensure_key(service, for_user=True)
    assert known(config) == outside


def test_a_key_that_opens_nothing_any_more_is_replaced(service: Service, config: Path) -> None:
    ensure_key(service, for_user=True)
    before = known(config)
    key = service.store.keys.authenticate(before.key, service.now())
    assert key is not None
    service.store.keys.revoke(key.id, service.now())
    ensure_key(service, for_user=True)
    assert known(config).key != before.key
    assert service.store.keys.authenticate(known(config).key, service.now()) is not None
