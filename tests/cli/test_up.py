"""What a server of one's own is started with."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from steep.cli.service import process


def test_jobs_may_read_what_was_gathered_into_the_cache(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python://` sources lie there, and a cache may be anywhere."""
    words: list[str] = []
    monkeypatch.setenv("STEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(process, "require_free_port", lambda host, port: None)
    monkeypatch.setattr(process, "start_server", lambda place, address, arguments: words.extend(arguments))
    monkeypatch.setattr(process, "wait_until_ready", lambda server, place, address: None)
    assert call("up", "--detach", "--data", tmp_path / "data")[0] == 0
    roots = [after for word, after in pairwise(words) if word == "--root"]
    assert roots == list(dict.fromkeys(map(str, [Path.home(), Path.cwd(), tmp_path / "cache"])))
