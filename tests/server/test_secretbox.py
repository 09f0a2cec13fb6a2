"""The key of secrets belongs to the database: a server with another one would answer wrong, and is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from steep.server.service import Service
from steep.server.settings import ServerSettings
from steep.spec.errors import DamagedArtifact, InvalidInput


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    return ServerSettings(data=tmp_path / "data", database=f"sqlite:///{tmp_path / 'steep.db'}", warm=False)


def test_a_server_with_another_key_of_secrets_is_refused(settings: ServerSettings, tmp_path: Path) -> None:
    first = Service.open(settings)
    first.store.secrets.put("default", "HF_TOKEN", first.box.lock("a token"), 1.0)
    Service.open(settings).close()  # a replica on the same data directory
    elsewhere = replace(settings, data=tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match="not the one that this database's secrets are encrypted with") as error:
        Service.open(elsewhere)
    assert str(tmp_path / "elsewhere" / "secrets.key") in str(error.value)
    assert "--new-secrets-key" in str(error.value.cure)
    (tmp_path / "elsewhere" / "secrets.key").write_bytes((settings.data / "secrets.key").read_bytes())
    second = Service.open(elsewhere)
    assert second.box.open(second.store.secrets.get("default", "HF_TOKEN")) == "a token"
    for service in (first, second):
        service.close()


def test_a_key_that_is_lost_for_good_is_given_up_by_name(settings: ServerSettings) -> None:
    first = Service.open(settings)
    first.store.secrets.put("default", "HF_TOKEN", first.box.lock("a token"), 1.0)
    first.close()
    (settings.data / "secrets.key").unlink()
    with pytest.raises(InvalidInput):
        Service.open(settings)
    second = Service.open(replace(settings, new_secrets_key=True))
    with pytest.raises(DamagedArtifact):
        second.box.open(second.store.secrets.get("default", "HF_TOKEN"))
    second.close()
    Service.open(settings).close()  # once is enough
