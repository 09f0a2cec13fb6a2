"""Buckets, URLs and hub datasets, against servers on this machine."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.artifacts.buckets import bucket, s3_address
from tests.corpus.helpers import read, text_of, write

from steep.corpus import remote
from steep.corpus.hub import split_address
from steep.corpus.sources import list_files
from steep.spec.errors import InvalidCorpus
from steep.spec.job import Source

__all__ = ["bucket", "s3_address"]
PROSE = "It was a bright cold day in April, and the clocks were striking thirteen.\n"


# ------------------------------------------------------------------------------------------------------------------ S3


@pytest.fixture
def filled(bucket: str, s3_address: str, tmp_path: Path) -> str:
    """A bucket with texts, packed records, a table, an archive and things that are no text."""
    import boto3

    pq.write_table(pa.table({"text": [f"row {number}" for number in range(3)]}), tmp_path / "t.parquet")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("inside.md", PROSE)
    lines = "".join(json.dumps({"body": f"line {number} {PROSE}"}) + "\n" for number in range(5))
    client = boto3.client("s3", region_name="us-east-1", endpoint_url=s3_address)
    for key, content in {
        "kb/a.txt": PROSE.encode(),
        "kb/deep/b.md": PROSE.encode(),
        "kb/lines.jsonl.gz": gzip.compress(lines.encode()),
        "kb/t.parquet": (tmp_path / "t.parquet").read_bytes(),
        "kb/z.zip": (tmp_path / "z.zip").read_bytes(),
        "kb/picture.png": b"\x89PNG",
        "kb/.hidden/c.txt": b"hidden",
        "kb2/other.txt": b"other",
    }.items():
        client.put_object(Bucket=bucket, Key=key, Body=content)
    client.close()
    return f"s3://{bucket}"


def names(path: str, **options: Any) -> list[str]:
    return [file.path.rpartition("/")[2] for file in list_files("s", Source(path=path, **options))]


def test_a_bucket_is_listed_like_a_directory(filled: str) -> None:
    everything = ["a.txt", "b.md", "lines.jsonl.gz", "t.parquet", "z.zip"]
    assert names(f"{filled}/kb") == everything
    assert names(f"{filled}/kb/") == everything
    assert names(filled) == [*everything, "other.txt"]
    assert names(f"{filled}/kb/*.txt") == ["a.txt"]
    assert names(f"{filled}/**/*.md") == ["b.md"]
    assert names(f"{filled}/kb/a.txt") == ["a.txt"]
    assert names(f"{filled}/kb", include=["*.txt", "*.md"], exclude=["deep/"]) == ["a.txt"]
    file = list_files("s", Source(path=f"{filled}/kb/a.txt"))[0]
    assert file.path == f"{filled}/kb/a.txt"
    assert file.size_bytes == len(PROSE)
    assert file.version == list_files("s", Source(path=f"{filled}/kb"))[0].version


def test_a_bucket_is_read_in_ranges(filled: str) -> None:
    documents, drops = read(f"{filled}/kb", text_field=None)
    assert not drops
    origins = [document.origin.removeprefix(f"{filled}/kb/") for document in documents]
    assert origins == [
        *("a.txt", "deep/b.md"),
        *(f"lines.jsonl.gz:{number}" for number in range(1, 6)),
        *(f"t.parquet:{number}" for number in range(1, 4)),
        "z.zip#inside.md",
    ]


def test_a_bucket_that_is_not_there(filled: str) -> None:
    for path in ("s3://no-such-bucket-at-all/a.txt", f"{filled}/nothing", f"{filled}/kb/gone.txt"):
        with pytest.raises(InvalidCorpus):
            list_files("s", Source(path=path))


def test_a_bucket_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(remote, "_ATTEMPTS", 0)
    with pytest.raises(InvalidCorpus, match="cannot be reached"):
        list_files("s", Source(path="s3://bucket/a.txt"))


def test_an_object_that_vanishes_is_an_error_and_no_drop(filled: str, s3_address: str, bucket: str) -> None:
    import boto3

    source = Source(path=f"{filled}/kb/lines.jsonl.gz", text_field="body")
    file = list_files("s", source)[0]
    client = boto3.client("s3", region_name="us-east-1", endpoint_url=s3_address)
    client.delete_object(Bucket=bucket, Key="kb/lines.jsonl.gz")
    client.close()
    from steep.corpus.extract import extract

    with pytest.raises(InvalidCorpus, match="no such bucket or object"):
        list(extract(file, source))


# ---------------------------------------------------------------------------------------------------------------- URLs


class _Handler(http.server.BaseHTTPRequestHandler):
    files: dict[str, bytes] = {}  # noqa: RUF012
    failures: dict[str, int] = {}  # noqa: RUF012
    refuses_head = False

    def do_HEAD(self) -> None:
        if self.refuses_head:
            self.send_error(405)
        else:
            self._answer(send=False)

    def do_GET(self) -> None:
        self._answer(send=True)

    def _answer(self, *, send: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        content = self.files.get(path)
        if content is None:
            self.send_error(404, "Not Found")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hash(content):x}"')
        self.end_headers()
        if send:
            fails = self.failures.get(path, 0)
            self.failures[path] = fails - 1
            self.wfile.write(content[: len(content) // 2] if fails > 0 else content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a web server; `_Handler.files` are its files."""
    monkeypatch.setattr(remote, "_PAUSE_SECONDS", 0.01)
    for name, value in {"files": {}, "failures": {}, "refuses_head": False}.items():
        monkeypatch.setattr(_Handler, name, value)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_urls_are_fetched_whatever_is_in_them(web: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["row"]}), tmp_path / "t.parquet")
    _Handler.files.update(
        {
            "/a.txt": PROSE.encode(),
            "/a file ä.txt": PROSE.encode(),
            "/l.jsonl.gz": gzip.compress(b'{"text": "line"}\n'),
            "/t.parquet": (tmp_path / "t.parquet").read_bytes(),
        }
    )
    assert text_of(f"{web}/a.txt") == PROSE
    assert text_of(f"{web}/a file ä.txt") == PROSE
    assert text_of(f"{web}/l.jsonl.gz?token=x.y") == "line"
    assert text_of(f"{web}/t.parquet") == "row"
    file = list_files("s", Source(path=f"{web}/a.txt"))[0]
    assert (file.size_bytes, bool(file.version)) == (len(PROSE), True)
    _Handler.refuses_head = True
    assert list_files("s", Source(path=f"{web}/a.txt")) == [file]


def test_a_connection_that_breaks_is_tried_again_and_then_an_error(web: str) -> None:
    _Handler.files["/a.txt"] = PROSE.encode() * 100
    _Handler.failures["/a.txt"] = 2
    assert text_of(f"{web}/a.txt") == PROSE * 100
    _Handler.failures["/a.txt"] = 100
    with pytest.raises(InvalidCorpus, match="cannot be reached"):
        read(f"{web}/a.txt")


def test_urls_that_are_not_there(web: str) -> None:
    with pytest.raises(InvalidCorpus, match="404"):
        read(f"{web}/nothing.txt")
    with pytest.raises(InvalidCorpus, match="cannot be reached"):
        read("http://127.0.0.1:9/a.txt")
    with pytest.raises(InvalidCorpus, match="no way to read ftp://"):
        read("ftp://127.0.0.1/a.txt")


# ----------------------------------------------------------------------------------------------------------------- hub


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("hf://org/name", ("org/name", None, "")),
        ("hf://org/name@v1/data/*.parquet", ("org/name", "v1", "data/*.parquet")),
        ("hf://datasets/org/name/a.txt", ("org/name", None, "a.txt")),
    ],
)
def test_addresses_of_datasets(url: str, expected: tuple[str, str | None, str]) -> None:
    assert split_address(url) == expected


def test_a_dataset_without_a_network_and_without_a_copy() -> None:
    with pytest.raises(InvalidCorpus, match="no network, and no copy in the cache") as caught:
        read("hf://some-org/no-such-dataset-here")
    assert caught.value.cure is not None
    with pytest.raises(InvalidCorpus, match="names no dataset"):
        read("hf://alone")


def test_a_dataset_that_was_fetched_before_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "datasets--org--name"
    commit = "0123456789abcdef0123456789abcdef01234567"
    write(repository / "refs" / "main", commit)
    for name, content in {"data/a.txt": PROSE, "data/b.jsonl": '{"text": "line"}\n', "README.md": "# Card"}.items():
        blob = write(repository / "blobs" / f"{abs(hash(name)):040x}", content)
        link = repository / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    import huggingface_hub._snapshot_download
    import huggingface_hub.file_download

    for module in (huggingface_hub.file_download.constants, huggingface_hub._snapshot_download.constants):
        monkeypatch.setattr(module, "HF_HUB_CACHE", str(tmp_path))
    documents, drops = read("hf://org/name/data")
    assert not drops
    assert [(document.origin, document.text) for document in documents] == [
        ("hf://org/name/data/a.txt", PROSE),
        ("hf://org/name/data/b.jsonl:1", "line"),
    ]
    assert len(read("hf://org/name")[0]) == 3
    assert len(read("hf://org/name@main/**/*.jsonl")[0]) == 1
