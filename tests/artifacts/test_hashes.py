"""A hash that was written down counts as long as the file is the one that was hashed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from steep.artifacts import hashes
from steep.artifacts.files import hash_file
from steep.artifacts.hashes import files_in, hash_files, hash_known


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "charts").mkdir()
    (tmp_path / "config.json").write_bytes(b"{}")
    (tmp_path / "charts" / "a.png").write_bytes(b"picture")
    (tmp_path / "link").symlink_to(tmp_path / "config.json")
    return tmp_path


def test_every_file_and_no_link(directory: Path) -> None:
    assert list(files_in(directory)) == ["charts/a.png", "config.json"]
    known = hash_files(directory)
    assert {name: one["blake3"] for name, one in known.items()} == {
        name: hash_file(directory / name) for name in ("charts/a.png", "config.json")
    }


def test_what_is_known_is_not_read_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = hash_files(directory)
    monkeypatch.setattr(hashes, "hash_file", lambda path: pytest.fail("it was read"))
    assert hash_known(directory / "config.json", "config.json", known) == known["config.json"]["blake3"]


def test_a_file_that_was_written_again_is_read(directory: Path) -> None:
    known, file = hash_files(directory), directory / "config.json"
    for content in (b"[]", b"()"):  # of the same size
        file.write_bytes(content)
        os.utime(file, ns=(0, int.from_bytes(content)))
        assert hash_known(file, "config.json", known) == hash_file(file)
    assert hash_known(file, "config.json", {}) == hash_file(file)
