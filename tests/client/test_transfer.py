"""Files come and go whole: streamed, taken up where they were, and checked; whatever the line and the server do."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.artifacts.disks import fill, small_disk
from tests.client.conftest import Do
from tests.client.service import Cut, Reply, Seen, Service, busy, digest, lost, ok, page, problem, ranged, unread

from steep.client import downloads, files
from steep.client.client import Client
from steep.spec.errors import DamagedArtifact, InvalidInput, NotFound, OutOfSpace, SteepError

__all__ = ["small_disk"]

CHANCE = random.Random(17)
WEIGHTS = CHANCE.randbytes(700_000)
FILES = {"training.json": b"{}", "manifest.json": b'{"step": 8}', "weights-00000.safetensors": WEIGHTS}


class Shelf:
    """A checkpoint's files; `cuts` says after how many bytes of the next answers the line is cut."""

    def __init__(self, service: Service, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.cuts: list[int] = []
        self.listed = [{"path": name, "size_bytes": len(one), "blake3": digest(one)} for name, one in contents.items()]
        self.sent: list[tuple[str, str]] = []
        base = "/jobs/job-0/checkpoints/8/files"
        service.route("GET", base, lambda seen: page(self.listed, seen.query))
        service.route("GET", f"{base}/(.+)", self.file)

    def file(self, seen: Seen, name: str) -> Reply:
        self.sent.append((name, seen.headers.get("range", "")))
        reply = ranged(self.contents[name], seen)
        if self.cuts and name.startswith("weights") and reply.status < 400:
            reply.pieces = self.cut(reply.body, self.cuts.pop(0))
        return reply

    @staticmethod
    def cut(body: bytes, after: int) -> Iterator[bytes]:
        yield body[:after]
        raise Cut


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_a_checkpoint_comes_over_a_bad_line(do: Do, service: Service, tmp_path: Path) -> None:
    shelf = Shelf(service, FILES)
    shelf.cuts = [100_000, 1, 300_000]
    service.faults = [None, None, busy(503), unread]
    assert do("checkpoints.download", "job-0", 8, tmp_path / "here") == tmp_path / "here"
    assert contents(tmp_path / "here") == FILES
    assert [begin for name, begin in shelf.sent if name.startswith("weights")][-1] == "bytes=400001-"
    assert shelf.sent[-1][0] == "manifest.json"  # it stands for all the others


def test_what_came_before_is_not_fetched_again(client: Client, service: Service, tmp_path: Path) -> None:
    shelf = Shelf(service, FILES)
    (tmp_path / "weights-00000.safetensors.part").write_bytes(WEIGHTS[:500_000])
    (tmp_path / "training.json").write_bytes(b"{}")
    counted: list[int] = []
    client.checkpoints.download("job-0", 8, tmp_path, count=counted.append)
    assert shelf.sent == [("weights-00000.safetensors", "bytes=500000-"), ("manifest.json", "")]
    assert sum(counted) == sum(map(len, FILES.values()))
    client.checkpoints.download("job-0", 8, tmp_path)
    assert len(shelf.sent) == 2
    assert contents(tmp_path) == FILES


@pytest.mark.parametrize("stale", [b"x" * 1000, WEIGHTS[:-1] + b"?", WEIGHTS + b"and more"])
def test_what_came_of_something_else_is_fetched_anew(
    client: Client, service: Service, tmp_path: Path, stale: bytes
) -> None:
    Shelf(service, FILES)
    (tmp_path / "weights-00000.safetensors.part").write_bytes(stale)
    (tmp_path / "manifest.json").write_bytes(b"another")
    counted: list[int] = []
    client.checkpoints.download("job-0", 8, tmp_path, count=counted.append)
    assert contents(tmp_path) == FILES
    assert sum(counted) == sum(map(len, FILES.values()))


def test_bytes_that_are_wrong_get_no_name(do: Do, service: Service, tmp_path: Path) -> None:
    shelf = Shelf(service, dict(FILES))
    shelf.contents["weights-00000.safetensors"] = WEIGHTS[:-1] + b"?"
    with pytest.raises(DamagedArtifact, match=r"weights-00000\.safetensors"):
        do("checkpoints.download", "job-0", 8, tmp_path)
    assert contents(tmp_path) == {"training.json": b"{}"}


def test_a_server_without_ranges_sends_all_of_it(client: Client, service: Service, tmp_path: Path) -> None:
    Shelf(service, FILES)
    base = "/jobs/job-0/checkpoints/8/files/(.+)"
    service.route("GET", base, lambda seen, name: Reply(200, FILES[name]))
    (tmp_path / "weights-00000.safetensors.part").write_bytes(WEIGHTS[:500_000])
    client.checkpoints.download("job-0", 8, tmp_path)
    assert contents(tmp_path) == FILES


def test_a_server_that_ends_too_early_is_given_up(
    client: Client, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Shelf(service, FILES)
    monkeypatch.setattr("steep.client.watching.PATIENCE_SECONDS", 0.0)
    base = "/jobs/job-0/checkpoints/8/files/(.+)"
    service.route("GET", base, lambda seen, name: Reply(206 if "range" in seen.headers else 200, b""))
    with (
        Client(service.address, service.token, patience_seconds=0.2) as impatient,
        pytest.raises(SteepError, match="ended the file before its end"),
    ):
        impatient.checkpoints.download("job-0", 8, tmp_path)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc/passwd", "a/../../b", ""])
def test_a_server_cannot_write_elsewhere(do: Do, service: Service, tmp_path: Path, path: str) -> None:
    listed = [{"path": path, "size_bytes": 1, "blake3": None}]
    service.route("GET", "/jobs/job-0/export/files", lambda seen: page(listed, seen.query))
    service.route("GET", "/jobs/job-0/export/files/.*", lambda seen: Reply(200, b"x"))
    with pytest.raises(SteepError, match="would lie elsewhere"):
        do("exports.download", "job-0", tmp_path / "here")
    assert contents(tmp_path) == {}


def test_an_export_keeps_its_folders(do: Do, service: Service, tmp_path: Path) -> None:
    listed = [{"path": name, "size_bytes": len(name)} for name in ("config.json", "original/a b.txt")]
    service.route("GET", "/jobs/job-0/export/files", lambda seen: page(listed, seen.query))
    service.route("GET", "/jobs/job-0/export/files/(.+)", lambda seen, name: Reply(200, name.encode()))
    do("exports.download", "job-0", tmp_path / "model")
    assert contents(tmp_path / "model") == {name: name.encode() for name in ("config.json", "original/a b.txt")}


def test_what_cannot_be_told_apart_is_fetched_anew(do: Do, service: Service, tmp_path: Path) -> None:
    """A server that says no hash: a file of the same size, or its beginning, may be that of another model."""
    service.route("GET", "/jobs/job-0/export/files", lambda seen: page([{"path": "w", "size_bytes": 3}], seen.query))

    def content(seen: Seen) -> Reply:
        return Reply(206, b"w") if "range" in seen.headers else Reply(200, b"new")

    service.route("GET", "/jobs/job-0/export/files/w", content)
    (tmp_path / "w").write_bytes(b"old")
    (tmp_path / "w.part").write_bytes(b"ol")
    do("exports.download", "job-0", tmp_path)
    assert contents(tmp_path) == {"w": b"new"}


def test_a_full_disk_is_said_and_what_came_stays(client: Client, service: Service, small_disk: Path) -> None:
    weights = {"weights-00000.safetensors": WEIGHTS[:200_000]}
    Shelf(service, weights)
    filler = fill(small_disk)
    with open(filler, "rb+") as stream:
        stream.truncate(filler.stat().st_size - 100_000)  # room for a part of it
    with pytest.raises(OutOfSpace):
        client.checkpoints.download("job-0", 8, small_disk)
    assert (small_disk / "weights-00000.safetensors.part").stat().st_size > 50_000
    filler.unlink()
    client.checkpoints.download("job-0", 8, small_disk)
    assert contents(small_disk) == weights
    assert int(service.seen[-1].headers["range"].removeprefix("bytes=").removesuffix("-")) > 50_000


# ---- one's own files


class Store:
    """Uploaded files, checked as the API says."""

    def __init__(self, service: Service) -> None:
        self.kept: dict[str, bytes] = {}
        service.route("POST", "/files", self.upload)
        service.route("GET", "/files/([^/]+)", lambda seen, file: ok(self.view(file)))
        service.route("GET", "/files/([^/]+)/content", lambda seen, file: ranged(self.kept[file], seen))

    def upload(self, seen: Seen) -> Reply:
        if digest(seen.body) != seen.query["blake3"]:
            return problem(422, "the content does not match its hash", code="invalid_input")
        self.kept[seen.query["name"]] = seen.body
        return ok(self.view(seen.query["name"]), 201)

    def view(self, name: str) -> dict[str, Any]:
        body = self.kept[name]
        facts = {"id": name, "name": name, "project": "default", "created_at": 1.0}
        return {**facts, "size_bytes": len(body), "blake3": digest(body)}


@pytest.mark.parametrize("content", [b"", b"a few words", WEIGHTS])
def test_a_file_goes_up_and_comes_back(do: Do, service: Service, tmp_path: Path, content: bytes) -> None:
    Store(service)
    (tmp_path / "ä book.txt").write_bytes(content)
    service.faults = [busy(503), lost]
    counted: list[int] = []
    view = do("files.upload", tmp_path / "ä book.txt", count=counted.append)
    assert (view.name, view.size_bytes, view.blake3) == ("ä book.txt", len(content), digest(content))
    assert sum(counted) == len(content)
    assert [int(seen.headers["content-length"]) for seen in service.seen] == [len(content)] * 3
    assert len({seen.headers["idempotency-key"] for seen in service.seen}) == 1
    (tmp_path / "back").mkdir()
    assert do("files.download", view.id, tmp_path / "back").read_bytes() == content


def test_an_upload_is_never_whole_in_memory(
    client: Client, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(service)
    monkeypatch.setattr(files, "CHUNK_BYTES", 1000)
    (tmp_path / "text").write_bytes(WEIGHTS)
    counted: list[int] = []
    client.files.upload(tmp_path / "text", count=counted.append)
    assert counted == [0] + [1000] * 700


def test_a_file_that_changes_meanwhile_is_refused(client: Client, service: Service, tmp_path: Path) -> None:
    Store(service)
    path = tmp_path / "text"
    path.write_bytes(b"before")

    def change(seen: Seen, answer: Any) -> Reply:
        path.write_bytes(b"after!")
        return Reply(503)

    service.faults = [change]
    with pytest.raises(InvalidInput, match="does not match its hash"):
        client.files.upload(path)


def test_what_is_no_file_is_refused_here(client: Client, service: Service, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InvalidInput, match="is not a file"):
            client.files.upload(path)
    assert service.seen == []


def test_a_name_of_the_server_is_only_a_name(client: Client, service: Service, tmp_path: Path) -> None:
    facts = {"id": "f", "name": "../../x", "project": "default", "created_at": 1.0}
    service.route("GET", "/files/f", lambda seen: ok({**facts, "size_bytes": 1, "blake3": digest(b"x")}))
    service.route("GET", "/files/f/content", lambda seen: Reply(200, b"x"))
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert client.files.download("f", tmp_path / "a" / "b") == tmp_path / "a" / "b" / "x"


def test_a_missing_file_leaves_nothing(client: Client, service: Service, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        client.files.download("f", tmp_path / "x")
    assert downloads.silent(1) is None
    assert contents(tmp_path) == {}
