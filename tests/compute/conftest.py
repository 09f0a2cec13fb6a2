"""What the tests of this room share: a local backend whose workers are little ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.backends import REPOSITORY, Harness
from tests.contract.local_backend import COLD, make_harness

from steep.compute.local.backend import LocalBackend


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    """A backend with four slots, which starts workers as new programs."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    harness = make_harness(tmp_path, LocalBackend(tmp_path, cpu_slots=4, warm=False, program=COLD))
    yield harness
    harness.end_all()
