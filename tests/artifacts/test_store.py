"""One contract, two kinds of store: what holds for a directory holds for a bucket."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.artifacts.buckets import bucket, s3_address
from tests.artifacts.disks import fill

from steep.artifacts.store import DirectoryStore, S3Store, Store, StoredObject, StoreUnavailable, open_store
from steep.spec.errors import DamagedArtifact, InvalidInput, OutOfSpace

__all__ = ["bucket", "s3_address"]

LARGE = bytes(range(256)) * 80_000  # 20 MB: several parts of an upload


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store, of each kind."""
    if request.param == "directory":
        return open_store(str(tmp_path / "a store"))
    return open_store(f"s3://{request.getfixturevalue('bucket')}/some/prefix")


# ---- the contract


def test_what_was_put_comes_back(store: Store, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(LARGE)
    assert store.put("a/file.bin", tmp_path / "source")
    assert store.put("a/bytes", b"\x00\xff")
    assert store.read("a/bytes") == b"\x00\xff"
    store.get("a/file.bin", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == LARGE


def test_an_empty_object_is_one(store: Store, tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    store.put("empty", tmp_path / "source")
    assert (store.read("empty"), store.exists("empty")) == (b"", True)
    store.get("empty", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b""
    assert store.list() == [StoredObject("empty", 0)]


def test_a_second_put_replaces(store: Store) -> None:
    store.put("key", b"first, and longer")
    assert store.put("key", b"second")
    assert store.read("key") == b"second"


def test_a_conditional_put_is_made_once(store: Store, tmp_path: Path) -> None:
    assert store.put("owner", b"one", if_absent=True)
    assert not store.put("owner", b"two", if_absent=True)
    assert store.read("owner") == b"one"
    (tmp_path / "source").write_bytes(b"three")
    assert not store.put("owner", tmp_path / "source", if_absent=True)
    assert store.put("other", tmp_path / "source", if_absent=True)
    assert [one.key for one in store.list()] == ["other", "owner"]
    store.delete("owner")
    assert store.put("owner", b"two", if_absent=True)


def test_of_many_conditional_puts_at_once_one_wins(store: Store) -> None:
    start, outcomes = threading.Barrier(8), dict[int, bool]()

    def put(number: int) -> None:
        start.wait(10)
        outcomes[number] = store.put("owner", str(number).encode(), if_absent=True)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(outcomes) == 8
    (winner,) = [number for number, won in outcomes.items() if won]
    assert store.read("owner") == str(winner).encode()


def test_a_list_is_of_one_prefix_sorted_with_sizes(store: Store) -> None:
    for key in ("b/2", "b/1", "b/deep/er", "bb/1", "a", "b/.hidden"):
        store.put(key, key.encode())
    everything = ["a", "b/.hidden", "b/1", "b/2", "b/deep/er", "bb/1"]
    assert store.list() == [StoredObject(key, len(key)) for key in everything]
    assert [one.key for one in store.list("b")] == ["b/.hidden", "b/1", "b/2", "b/deep/er"]
    assert [one.key for one in store.list("b/deep")] == ["b/deep/er"]
    assert store.list("nothing") == []
    assert store.list("a") == []  # an object is not below itself


def test_what_was_deleted_is_gone_and_deleting_again_is_fine(store: Store) -> None:
    for key in ("a/1", "a/2"):
        store.put(key, b"x")
    store.delete("a/1")
    store.delete("a/1")
    store.delete("never/there")
    assert [store.exists(key) for key in ("a/1", "a/2", "a")] == [False, True, False]
    assert [one.key for one in store.list()] == ["a/2"]


def test_what_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifact, match=r"no/such: is not in the store"):
        store.read("no/such")
    with pytest.raises(DamagedArtifact, match=r"no/such: is not in the store"):
        store.get("no/such", tmp_path / "target")
    assert not store.exists("no/such")


@pytest.mark.parametrize("key", ["../out", "a/../../out", "/etc/passwd", "", "."])
def test_a_key_cannot_lead_elsewhere(store: Store, tmp_path: Path, key: str) -> None:
    for act in (
        lambda: store.put(key, b"x"),
        lambda: store.read(key),
        lambda: store.exists(key),
        lambda: store.delete(key),
        lambda: store.get(key, tmp_path / "target"),
    ):
        with pytest.raises(InvalidInput, match="is not a key"):
            act()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["with space/ü €/100%.json", "a+b&c=d?e#f", "[x]*{y}"])
def test_any_name_is_a_name(store: Store, key: str) -> None:
    store.put(key, b"x")
    assert (store.read(key), store.list()) == (b"x", [StoredObject(key, 1)])
    store.put(key, b"xy")
    store.delete(key)
    assert store.list() == []


def test_a_full_disk_here_pauses_and_is_no_failure_of_the_store(store: Store, small_disk: Path) -> None:
    store.put("large", b"x" * 500_000)
    with pytest.raises(OutOfSpace, match="small disk"):
        store.get("large", small_disk / "target")


# ---- addresses


def test_addresses(tmp_path: Path, bucket: str) -> None:
    opened = open_store(f"file://{tmp_path}/x")
    assert isinstance(opened, DirectoryStore)
    assert opened.root == tmp_path / "x"
    assert isinstance(open_store(str(tmp_path)), DirectoryStore)
    assert isinstance(open_store(f"s3://{bucket}"), S3Store)


@pytest.mark.parametrize("url", ["gs://bucket/x", "https://host/x", "s3://", "s3:///x"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="is not a store") as refused:
        open_store(url)
    assert "s3://bucket/prefix" in str(refused.value.cure)


def test_prefixes_of_a_bucket_do_not_mix(bucket: str) -> None:
    one, other = open_store(f"s3://{bucket}/one"), open_store(f"s3://{bucket}/other")
    one.put("key", b"x")
    assert (other.exists("key"), other.list()) == (False, [])
    assert [entry.key for entry in open_store(f"s3://{bucket}").list()] == ["one/key"]


# ---- stores that fail


def every_verb(store: Store, target: Path) -> list[Callable[[], object]]:
    return [
        lambda: store.put("a/key", b"x"),
        lambda: store.put("a/key", b"x", if_absent=True),
        lambda: store.read("a/key"),
        lambda: store.get("a/key", target),
        lambda: store.exists("a/key"),
        lambda: store.delete("a/key"),
    ]


def test_a_bucket_that_is_not_there_is_said_to_be_missing(bucket: str, tmp_path: Path) -> None:
    absent = open_store(f"s3://{bucket}-absent/x")
    for act in (*every_verb(absent, tmp_path / "t")[:4], absent.list):
        with pytest.raises(StoreUnavailable, match="the store failed: NoSuchBucket: "):
            act()


def test_a_file_that_is_not_here_is_no_object_that_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="the store failed"):
        store.put("key", tmp_path / "no such file")
    assert store.list() == []


def test_a_server_that_does_not_answer_is_unavailable(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    gone = open_store(f"s3://{bucket}")
    with pytest.raises(StoreUnavailable, match="the store failed") as failed:
        gone.put("key", b"x")
    assert "credentials" in str(failed.value.cure)
    assert "\n" not in str(failed.value)
    with pytest.raises(StoreUnavailable):
        gone.list()


def test_a_directory_that_cannot_be_one_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    blocked = DirectoryStore(tmp_path / "file")
    for act in every_verb(blocked, tmp_path / "t")[:4]:
        with pytest.raises(StoreUnavailable, match="the store failed"):
            act()


def test_a_full_store_is_unavailable_and_does_not_pause_the_run(small_disk: Path) -> None:
    store = DirectoryStore(small_disk / "store")
    store.put("key", b"old")
    fill(small_disk)
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        store.put("key", b"x" * 100_000)
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        store.put("other", b"x" * 100_000, if_absent=True)
    assert store.read("key") == b"old"
    assert [one.key for one in store.list()] == ["key"]


# ---- a directory only


WRITER = """
import os, signal, sys
from pathlib import Path
from steep.artifacts.store import DirectoryStore
os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
Path.replace = os.replace
DirectoryStore(Path(sys.argv[1])).put("a/key", b"x" * 100_000)
"""


def test_what_a_killed_writer_left_is_not_listed_and_does_not_stay(tmp_path: Path) -> None:
    for clear in (lambda store: store.put("a/key", b"new"), lambda store: store.delete("a/key")):
        ended = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path / "store")], check=False)
        assert ended.returncode == -signal.SIGKILL
        store = DirectoryStore(tmp_path / "store")
        assert [path.stat().st_size for path in (tmp_path / "store" / "a").glob(".*.tmp")] == [100_000]
        assert [one.size_bytes for one in store.list() if one.size_bytes > 3] == []
        clear(store)
        assert list((tmp_path / "store").rglob(".*")) == []
    assert list((tmp_path / "store").iterdir()) == []


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*names: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(os, "link", cannot)
    store = DirectoryStore(tmp_path / "store")
    assert store.put("owner", b"one", if_absent=True)
    assert not store.put("owner", b"two", if_absent=True)
    assert store.read("owner") == b"one"
    assert [path.name for path in store.root.iterdir()] == ["owner"]


def test_a_reader_sees_the_old_object_until_the_new_one_is_whole(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.put("key", b"old")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=store.put, args=("key", pipe))
    writer.start()
    with open(pipe, "wb", buffering=0) as stream:
        stream.write(b"half")
        assert store.read("key") == b"old"
        assert [one.key for one in store.list()] == ["key"]
        stream.write(b" and half")
    writer.join(10)
    assert store.read("key") == b"half and half"
