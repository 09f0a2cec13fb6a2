"""Uploads while room runs out, and what is left of those that were cut off."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.server.serving import ServerProcess
from tests.server.shelving import Shelf

from steep.server import uploads
from steep.spec.api.files import FileView
from steep.spec.api.projects import ProjectRequest, Quota
from steep.spec.errors import InvalidInput, OutOfSpace

PIECE = b"x" * 1000


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    one = Shelf(tmp_path)
    (tmp_path / "files").mkdir()
    one.store.projects.ensure("default", one.now)
    yield one
    one.service.close()


class Sender:
    """Sends pieces, and counts those that were taken."""

    def __init__(self, pieces: int) -> None:
        self.pieces, self.taken = pieces, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.pieces):
            yield PIECE
            self.taken += 1


def upload(shelf: Shelf, sender: Sender, project: str = "default") -> FileView:
    received = uploads.receive(
        shelf.service, aiter(sender), name="x.txt", project=project, blake3_hex=None, created_by="me"
    )
    return asyncio.run(received)


def test_an_upload_ends_when_the_disk_is_nearly_full_and_leaves_nothing(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "LOOK_BYTES", 2000)
    free = iter([uploads.SPARE_BYTES, uploads.SPARE_BYTES, uploads.SPARE_BYTES - 1])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free)))
    sender = Sender(100)
    with pytest.raises(OutOfSpace):
        upload(shelf, sender)
    assert sender.taken == 3, "the fourth piece made it clear"
    assert list((shelf.service.settings.data / "files").iterdir()) == []


def test_an_upload_ends_when_it_is_more_than_its_project_may_store(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "LOOK_BYTES", 2000)
    shelf.store.projects.create(ProjectRequest(name="small", quota=Quota(stored_bytes=4500)), shelf.now)
    sender = Sender(100)
    with pytest.raises(InvalidInput, match="has no room for it"):
        upload(shelf, sender, "small")
    assert sender.taken == 5
    assert upload(shelf, Sender(4), "small").size_bytes == 4000


def left(files: Path, name: str, hours: float) -> Path:
    """What somebody wrote so long ago."""
    directory = files / name
    directory.mkdir(parents=True)
    (directory / "x.txt").write_bytes(PIECE)
    age(directory, hours)
    return directory


def age(directory: Path, hours: float) -> None:
    then = time.time() - hours * 3600
    for path in (directory / "x.txt", directory):
        os.utime(path, (then, then))


def test_what_nobody_can_ask_for_goes_and_all_else_stays(shelf: Shelf) -> None:
    files = shelf.service.settings.data / "files"
    known = files / upload(shelf, Sender(1)).id
    age(known, 2)
    forgotten, fresh = left(files, "file-forgotten", 2), left(files, "file-fresh", 0.5)
    going_on = left(files, "file-going-on", 2)
    (going_on / "x.txt").write_bytes(PIECE)
    assert uploads.sweep(shelf.service) == len(PIECE)
    assert sorted(files.iterdir()) == sorted([known, fresh, going_on])
    assert not forgotten.exists()


def test_a_server_that_starts_deletes_what_an_earlier_one_left(tmp_path: Path) -> None:
    forgotten = left(tmp_path / "data" / "files", "file-forgotten", 2)
    server = ServerProcess(tmp_path / "data", tmp_path, ("--cold",))
    server.start()
    try:
        assert not forgotten.exists()
    finally:
        server.end()
