"""The local backend passes the suite of all backends, cold and warm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.contract.backends import REPOSITORY, BackendSuite, Harness, eventually
from tests.contract.local_backend import COLD, WARM, make_harness

from steep.compute.local.backend import LocalBackend


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBackend]:
    """A backend whose warm process is ready."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        with LocalBackend(tmp_path_factory.mktemp("warm"), cpu_slots=4, program=WARM) as backend:
            eventually(backend.is_warm, "the warm process")
            yield backend


class LocalSuite(BackendSuite):
    @pytest.fixture(autouse=True)
    def _workers_find_the_tests(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))

    def devices_seen(self, environment: Mapping[str, str], devices: tuple[str, ...]) -> None:
        assert environment["CUDA_VISIBLE_DEVICES"] == ",".join(one for one in devices if not one.startswith("cpu-"))


class TestCold(LocalSuite):
    """Workers are started as new programs."""

    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return make_harness(tmp_path, LocalBackend(tmp_path, cpu_slots=4, warm=False, program=COLD))


class TestWarm(LocalSuite):
    """Workers are forked from a warm process."""

    @pytest.fixture
    def harness(self, warm: LocalBackend, tmp_path: Path) -> Harness:
        assert warm.is_warm()
        return make_harness(tmp_path, warm)
