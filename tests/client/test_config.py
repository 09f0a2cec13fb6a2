"""Which server and which key: nearest first, readable by their owner alone, and no key shown to a stranger."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from steep.client.config import Settings, config_file, find_settings, read_config, write_config
from steep.spec.errors import InvalidInput, Unauthorized

SAVED = Settings("http://localhost:8470", "steep-saved-€\"\\'")


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with a config file."""
    environment = {"HOME": str(tmp_path)}
    write_config(config_file(environment), SAVED)
    return environment


def test_what_was_written_is_read(home: dict[str, str]) -> None:
    assert read_config(config_file(home)) == SAVED
    assert config_file(home) == Path(home["HOME"]) / ".config" / "steep" / "config.toml"
    assert config_file({**home, "XDG_CONFIG_HOME": "/x"}) == Path("/x/steep/config.toml")


def test_only_its_owner_may_read_it(home: dict[str, str], tmp_path: Path) -> None:
    path = config_file(home)
    old = os.umask(0)
    try:
        path.chmod(0o666)
        write_config(path, Settings("http://localhost:1", "new"))
        write_config(tmp_path / "new" / "config.toml", SAVED)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new" / "config.toml").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert sorted(one.name for one in path.parent.iterdir()) == ["config.toml"]


def test_the_nearest_counts(home: dict[str, str]) -> None:
    assert find_settings(environment=home) == SAVED
    near = {**home, "STEEP_SERVER": "https://gpu.example:8000/", "STEEP_KEY": "near"}
    assert find_settings(environment=near) == Settings("https://gpu.example:8000", "near")
    assert find_settings("http://here", "mine", environment=near) == Settings("http://here", "mine")
    assert find_settings(key="mine", environment=home) == Settings(SAVED.server, "mine")


def test_a_saved_key_is_shown_to_its_own_server_alone(home: dict[str, str]) -> None:
    assert find_settings("http://localhost:8470/", environment=home) == SAVED
    for other in ("http://localhost:8471", "https://localhost:8470", "http://elsewhere.example"):
        with pytest.raises(Unauthorized, match="no key is known for this server"):
            find_settings(other, environment=home)
        with pytest.raises(Unauthorized):
            find_settings(environment={**home, "STEEP_SERVER": other})


def test_nothing_known_is_said_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no server is known") as unknown:
        find_settings(environment={"HOME": str(tmp_path)})
    assert "steep up" in str(unknown.value.cure)
    assert unknown.value.where is None  # nobody set a variable, so none is the place


@pytest.mark.parametrize("server", ["localhost:8470", "ftp://x", "http://", "http://x:y", "//x", "http://x:99999"])
def test_what_is_no_address_is_refused(tmp_path: Path, server: str) -> None:
    with pytest.raises(InvalidInput, match="is not the address of a server"):
        find_settings(server, "key", environment={"HOME": str(tmp_path)})


@pytest.mark.parametrize("content", ["server = ", "server = 'http://x'", "\xff", "key = 'x'"])
def test_a_damaged_file_is_named(home: dict[str, str], content: str) -> None:
    config_file(home).write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidInput, match=r"config\.toml: the config file cannot be used") as damaged:
        find_settings(environment=home)
    assert "steep login" in str(damaged.value.cure)


def test_a_key_is_not_shown(home: dict[str, str]) -> None:
    assert "saved" not in repr(SAVED)
