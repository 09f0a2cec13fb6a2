"""A file is whole or absent, a directory is durable, a hash is that of the bytes."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from stat import S_ISDIR

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.artifacts.disks import fill

from steep.artifacts.files import (
    allocate,
    atomic_writer,
    full_disk_stops,
    hash_file,
    hash_text,
    make_directory,
    write_atomic,
)
from steep.spec.errors import InvalidModel, OutOfSpace


def test_a_file_appears_with_its_directories(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.json"
    write_atomic(path, "grün")
    assert path.read_bytes() == "grün".encode()
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]


def test_until_the_end_the_old_content_stands(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")
    with atomic_writer(path, "w", encoding="utf-8") as stream:
        stream.write("new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError("bad"), KeyboardInterrupt(), OSError(errno.EIO, "broken")])
def test_a_failure_leaves_the_old_content_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def fail() -> None:
        with atomic_writer(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(type(error)) as raised:
        fail()
    assert raised.value is error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_threads_that_write_one_file_do_not_mix(tmp_path: Path) -> None:
    path, start = tmp_path / "file", threading.Barrier(2)

    def write(mark: bytes) -> None:
        with atomic_writer(path) as stream:
            start.wait(10)  # both have their file open
            stream.write(mark * 100_000)
            start.wait(10)

    threads = [threading.Thread(target=write, args=(mark,)) for mark in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert path.read_bytes() in (b"a" * 100_000, b"b" * 100_000)
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_old_content(small_disk: Path) -> None:
    path = small_disk / "file"
    write_atomic(path, "old")
    fill(small_disk)
    with pytest.raises(OutOfSpace, match="the disk is full") as full:
        write_atomic(path, "x" * 100_000)
    assert "Free some space" in str(full.value.cure)
    assert path.read_text() == "old"
    assert {entry.name for entry in small_disk.iterdir()} == {"file", "filler"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_only_a_lack_of_room_pauses_a_run(number: int) -> None:
    with pytest.raises(OutOfSpace, match="place"), full_disk_stops(Path("place")):
        raise OSError(number, "full")
    with pytest.raises(PermissionError), full_disk_stops(Path("place")):
        raise PermissionError(errno.EACCES, "no")


def test_a_library_in_rust_that_has_no_room_pauses_a_run_too(small_disk: Path) -> None:
    from safetensors.numpy import save_file

    with pytest.raises(OutOfSpace), full_disk_stops(small_disk):
        save_file({"weights": np.zeros(10**6, np.uint8)}, small_disk / "model.safetensors")
    with pytest.raises(RuntimeError), full_disk_stops(Path("place")):
        raise RuntimeError("No such file or directory (os error 2)")
    with pytest.raises(InvalidModel), full_disk_stops(Path("place")):
        raise InvalidModel("said: No space left on device (os error 28)")


@pytest.mark.parametrize("can_reserve", [True, False])
def test_room_is_taken_before_a_file_is_mapped(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, can_reserve: bool
) -> None:
    if not can_reserve:
        monkeypatch.delattr(os, "posix_fallocate")
    file = small_disk / "file"
    allocate(file, 100_000)
    assert file.read_bytes() == bytes(100_000)
    assert file.stat().st_blocks * 512 >= 100_000
    with pytest.raises(OutOfSpace):
        allocate(small_disk / "another", 10**6)
    assert list(small_disk.iterdir()) == [file]


def test_a_directory_is_made_once_and_never_over_a_file(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file" / "below")


def test_new_directories_are_durable_in_the_ones_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("steep.artifacts.files.sync_directory", synced.append)
    make_directory(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]


def test_a_file_system_that_cannot_sync_directories_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, number = os.fsync, errno.EINVAL

    def cannot(descriptor: int) -> None:
        if S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, "not here")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", cannot)
    write_atomic(tmp_path / "file", "content")
    assert (tmp_path / "file").read_text() == "content"
    number = errno.EIO
    with pytest.raises(OSError, match="not here"):
        write_atomic(tmp_path / "file", "content")


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 5000])
def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert hash_file(tmp_path / "file") == blake3(content).hexdigest()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_texts_have_one_hash_only_when_they_are_the_same_parts(one: list[str], other: list[str]) -> None:
    assert (hash_text(*one) == hash_text(*other)) == (one == other)


def test_parts_do_not_run_into_each_other() -> None:
    assert len({hash_text(), hash_text(""), hash_text("ab"), hash_text("a", "b"), hash_text("", "ab")}) == 5
