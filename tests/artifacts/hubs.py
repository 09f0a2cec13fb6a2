"""A hub without a network: its cache on this machine, as the hub's client leaves one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True, slots=True)
class HubCache:
    """The cache; what is put there can be asked for by its name."""

    place: Path

    def put(self, name: str, directory: Path, commit: str = COMMIT, revision: str = "main") -> Path:
        """Make a directory's files a repository's revision, which is at this commit from now on. Returns the snapshot."""
        repository = self.place / f"models--{name.replace('/', '--')}"
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for file in directory.iterdir():
            (snapshot / file.name).symlink_to(file)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit)
        return snapshot


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubCache:
    """An empty cache, and no network."""
    place = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return HubCache(place)
