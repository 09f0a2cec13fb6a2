"""What of the server's environment a worker gets: all that it may need to work, and none of the server's own secrets."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from tests.contract.backends import REPOSITORY
from tests.contract.local_backend import COLD, make_harness

from steep.compute.contract import Order
from steep.compute.local.backend import LocalBackend
from steep.compute.local.environment import environment_of

SERVERS_OWN = {
    "STEEP_SMTP_PASSWORD": "of the mail server", "PGPASSWORD": "of the database", "PGSERVICE": "of the database too",
    "OTEL_EXPORTER_OTLP_HEADERS": "api-key=of the collector", "GITHUB_TOKEN": "of the operator", "VAULT_SECRET_ID": "x",
    "DATABASE_URL": "postgresql://steep:password@db/steep", "SSH_AUTH_SOCK": "/run/agent",
}  # fmt: skip
FOR_WORK = {
    "STEEP_CACHE": "/cache", "NCCL_SOCKET_IFNAME": "eth0", "TOKENIZERS_PARALLELISM": "false", "HF_HOME": "/hub",
    "HTTPS_PROXY": "http://user:password@proxy:3128", "HF_TOKEN": "lent to all", "AWS_ACCESS_KEY_ID": "lent to all",
    "AWS_SESSION_TOKEN": "lent to all", "AWS_ENDPOINT_URL": "https://ours", "WANDB_API_KEY": "lent to all",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SERVERS_OWN, **FOR_WORK}.items():
        monkeypatch.setenv(name, value)


def environment(**own: str) -> dict[str, str]:
    return environment_of(Order("job", 1, Path("/run"), (), own), "handle", 1, ())


def test_workers_get_what_they_need_and_no_secret_that_the_engine_has_no_use_for() -> None:
    assert not SERVERS_OWN.keys() & environment().keys()
    assert FOR_WORK.items() <= environment().items()
    assert environment()["PATH"] == os.environ["PATH"]


def test_what_a_project_gives_is_given() -> None:
    assert environment(HF_TOKEN="its own", PGPASSWORD="its own").items() >= {
        ("HF_TOKEN", "its own"), ("PGPASSWORD", "its own"), ("AWS_ACCESS_KEY_ID", "lent to all")
    }  # fmt: skip


def test_a_project_with_keys_of_its_own_has_none_of_the_servers_for_the_same_store() -> None:
    mine = environment(AWS_ENDPOINT_URL="https://elsewhere")
    assert {name for name in mine if name.startswith("AWS_")} == {"AWS_ENDPOINT_URL"}
    assert mine["HF_TOKEN"] == "lent to all"


def test_no_process_beside_the_worker_holds_them_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    harness = make_harness(tmp_path, LocalBackend(tmp_path, cpu_slots=4, warm=False, program=COLD))
    worker = harness.start("steady")
    keeper = psutil.Process(worker.pid).parent()
    assert keeper is not None
    assert keeper.pid != os.getpid()
    assert not SERVERS_OWN.keys() & keeper.environ().keys()
    harness.end_all()
