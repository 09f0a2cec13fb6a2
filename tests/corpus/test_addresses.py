"""Where a service wants it, URLs are read at public addresses alone, whatever their names mean and wherever answers lead."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from steep.corpus import addresses, remote
from steep.corpus.addresses import PUBLIC_ONLY
from steep.corpus.remote import list_remote
from steep.spec.errors import InvalidCorpus
from steep.spec.job import Source


class Site(ThreadingHTTPServer):
    """Answers with a text, or leads elsewhere."""

    def __init__(self, host: str, leads_to: str | None = None) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                asked.append(self.path)
                self.send_response(200 if leads_to is None else 302)
                if leads_to is not None:
                    self.send_header("Location", leads_to)
                self.send_header("Content-Length", "3")
                self.end_headers()

            do_GET = do_HEAD

            def log_message(self, *words: object) -> None: ...

        super().__init__((host, 0), Handler)
        threading.Thread(target=self.serve_forever).start()

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_port}/tea.txt"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def inside() -> Iterator[Site]:
    """A site of the server's own network."""
    site = Site("127.0.0.2")
    yield site
    site.shutdown()
    site.server_close()


@pytest.fixture
def outside(inside: Site) -> Iterator[Site]:
    """A site that leads there."""
    site = Site("127.0.0.1", inside.url)
    yield site
    site.shutdown()
    site.server_close()


@pytest.fixture
def ftp() -> Iterator[socket.socket]:
    """Where another service of the server's own network listens."""
    with socket.create_server(("127.0.0.2", 0)) as listening:
        listening.settimeout(0.2)
        yield listening


@pytest.fixture
def leading_to_ftp(ftp: socket.socket) -> Iterator[Site]:
    """A site that leads there."""
    site = Site("127.0.0.1", f"ftp://127.0.0.2:{ftp.getsockname()[1]}/tea.txt")
    yield site
    site.shutdown()
    site.server_close()


def read(url: str) -> int:
    return list_remote(Source(path=url))[0][1]


def test_an_address_that_is_not_public_is_not_even_asked(inside: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(inside.url) == 3
    monkeypatch.setenv(PUBLIC_ONLY, "1")
    with pytest.raises(InvalidCorpus, match=r"127\.0\.0\.2, which is no public address"):
        read(inside.url)
    assert len(inside.asked) == 1


def test_an_answer_cannot_lead_to_one(inside: Site, outside: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(outside.url) == 3
    monkeypatch.setenv(PUBLIC_ONLY, "1")
    monkeypatch.setattr(addresses, "is_public", lambda address: address == urlsplit(outside.url).hostname)
    with pytest.raises(InvalidCorpus, match=r"127\.0\.0\.2, which is no public address"):
        read(outside.url)
    assert (len(outside.asked), len(inside.asked)) == (2, 1)


def test_an_answer_cannot_lead_to_what_is_no_web_server(
    leading_to_ftp: Site, ftp: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing looks at the addresses of other schemes."""
    monkeypatch.setenv(PUBLIC_ONLY, "1")
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(remote, "_TIMEOUT_SECONDS", 0.5)
    with pytest.raises(InvalidCorpus, match="unknown url type: ftp"):
        read(leading_to_ftp.url)
    with pytest.raises(TimeoutError):
        ftp.accept()


def test_a_name_is_looked_at_where_it_leads_now(inside: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it meant when the job was taken."""
    monkeypatch.setenv(PUBLIC_ONLY, "1")
    with pytest.raises(InvalidCorpus, match=r"localhost is at .* which is no public address"):
        read(f"http://localhost:{inside.server_port}/tea.txt")


def test_a_proxy_of_the_environment_guards_instead(inside: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PUBLIC_ONLY, "1")
    monkeypatch.setenv("http_proxy", inside.url.removesuffix("/tea.txt"))
    assert read("http://example.org/tea.txt") == 3
    assert inside.asked == ["http://example.org/tea.txt"]


def test_its_other_ports_are_not_trusted(inside: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the proxy itself, where a request does not go through it."""
    monkeypatch.setenv(PUBLIC_ONLY, "1")
    monkeypatch.setenv("no_proxy", "127.0.0.2")
    for port in (1, inside.server_port):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.2:{port}")
        with pytest.raises(InvalidCorpus, match=r"127\.0\.0\.2, which is no public address"):
            read(inside.url)
    assert inside.asked == []
