"""What all tests share. No test reaches the network; material beside the repository is used only where it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

REPOSITORY = Path(__file__).resolve().parents[1]
LONG_ROOMS = frozenset(("chaos", "cli", "docs", "e2e", "server", "worker"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real text, real files of many formats and small weights, which lie beside the repository on some machines."""
    path = REPOSITORY.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"{path} is not on this machine")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests come first, so that no process is left with them at the end. One for a GPU is skipped without a GPU."""
    items.sort(key=lambda item: item.path.relative_to(REPOSITORY / "tests").parts[0] not in LONG_ROOMS)
    wanted = [item for item in items if item.get_closest_marker("gpu")]
    if not wanted:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanted:
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device on this machine"))
