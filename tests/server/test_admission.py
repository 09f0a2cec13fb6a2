"""The server's own files are nobody's text, even where a root lies above them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.serving import Serving, serving
from tests.server.test_expectations import Machine

from steep import Client
from steep.compute.contract import Device, Order
from steep.corpus.addresses import PUBLIC_ONLY
from steep.server.loops.scheduler import Scheduler
from steep.spec.errors import InvalidSpec

Spec = dict[str, Any]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's home, below which jobs may read."""
    home = tmp_path / "home"
    (home / "texts").mkdir(parents=True)
    (home / "texts" / "tea.txt").write_text("tea " * 1000)
    return home


@pytest.fixture(params=["steep", ".local/share/steep"])
def house(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    data = home / request.param
    data.mkdir(parents=True)
    with serving(data, roots=(home,)) as house:
        (data / "admin.toml").write_text("key = 'of an admin'")
        yield house


@pytest.fixture
def client(house: Serving) -> Iterator[Client]:
    with house.client("member") as client:
        yield client


@pytest.fixture
def spec(tiny: Callable[..., Spec]) -> Callable[..., Spec]:
    def make(path: object) -> Spec:
        made = tiny()
        made["corpus"]["sources"] = [str(path)]
        return made

    return make


def test_no_job_reads_keys_or_what_belongs_to_others(
    house: Serving, client: Client, home: Path, spec: Callable[..., Spec]
) -> None:
    data = house.service.settings.data
    for path in (data / "admin.toml", data / "secrets.key", data / "files", data, data / "runs" / "*" / "job.yaml"):
        with pytest.raises(InvalidSpec, match="own files"):
            client.jobs.plan(spec(path))
    with pytest.raises(InvalidSpec, match="own files"):
        client.jobs.plan(spec(home / ".config" / "steep" / "config.toml"))
    (home / "texts" / "link").symlink_to(data)
    with pytest.raises(InvalidSpec, match="own files"):
        client.jobs.plan(spec(home / "texts" / "link" / "admin.toml"))
    (home / "texts" / "link").unlink()
    assert client.jobs.plan(spec(home / "texts")).valid
    if data == home / "steep":
        for above in (home, home / "*", home / "**" / "*.toml"):
            with pytest.raises(InvalidSpec, match="holds the server's own files"):
                client.jobs.plan(spec(above))
    else:
        assert client.jobs.plan(spec(home)).valid, "what is hidden is not read from above"


def test_no_job_writes_there_or_takes_its_base_or_its_tasks_from_there(
    house: Serving, client: Client, home: Path, spec: Callable[..., Spec]
) -> None:
    data = house.service.settings.data
    for part, key, value in (
        ("checkpoints", "store", data / "runs"),
        ("evaluation", "tasks", [str(data / "files" / "file-1" / "task.yaml")]),
    ):
        values = spec(home / "texts")
        values[part][key] = value if isinstance(value, list) else str(value)
        with pytest.raises(InvalidSpec, match="own files"):
            client.jobs.create(values)


def test_the_export_of_a_job_may_be_the_base_of_another_of_its_project(
    house: Serving, client: Client, home: Path, spec: Callable[..., Spec]
) -> None:
    first = client.jobs.create(spec(home / "texts")).id
    values = spec(home / "texts")
    values["base"] = str(house.service.settings.data / "runs" / first / "export")
    assert client.jobs.plan(values).valid
    house.service.store.projects.ensure("other", 0.0)
    with house.client("member", "other") as stranger, pytest.raises(InvalidSpec, match="own files"):
        stranger.jobs.plan(values)
    values["base"] = str(house.service.settings.data / "runs" / first / "checkpoints")
    with pytest.raises(InvalidSpec, match="own files"):
        client.jobs.plan(values)


@pytest.mark.parametrize(
    ("artifacts", "kept_out", "free"),
    [
        (
            "s3://house/steep/",
            ["s3://house/steep", "s3://house/steep/job-1/tiny", "S3://house//steep/*", "s3://house/s*", "s3://house"],
            ["s3://house/texts", "s3://house/steeper", "s3://other/steep"],
        ),
        ("{home}/copies", ["{home}/copies", "{home}/copies/job-1", "{home}/c*", "{home}"], ["{home}/texts"]),
        ("file://{home}/copies", ["{home}/copies/job-1"], ["{home}/texts"]),
    ],
)
def test_no_job_reads_or_writes_where_copies_of_all_jobs_lie(
    tmp_path: Path, home: Path, spec: Callable[..., Spec], artifacts: str, kept_out: list[str], free: list[str]
) -> None:
    artifacts = artifacts.format(home=home)
    (tmp_path / "data").mkdir()
    with serving(tmp_path / "data", roots=(home,), artifacts=artifacts) as house, house.client("member") as client:

        def admit_as(part: str, path: str) -> None:
            values = spec(path if part == "source" else home / "texts")
            if part == "store":
                values["checkpoints"]["store"] = path
            assert client.jobs.plan(values).valid

        for part in ("source", "store"):
            for path in kept_out:
                with pytest.raises(InvalidSpec, match="own files"):
                    admit_as(part, path.format(home=home))
            for path in free:
                admit_as(part, path.format(home=home))


class Recording(Machine):
    """A backend that notes what it is asked to start."""

    def submit(self, order: Order) -> str:
        self.environment = dict(order.environment)
        return "handle"


@pytest.mark.parametrize("private_urls", [False, True])
def test_workers_are_told_whether_they_may_read_addresses_that_are_not_public(
    tmp_path: Path, place: Path, tiny: Callable[..., Spec], private_urls: bool
) -> None:
    backend = Recording(Device("cpu-0", "cpu", "CPU", 1))
    with serving(tmp_path / "data", {"local": backend}, roots=(place,), private_urls=private_urls) as house:
        with house.client() as client:
            client.jobs.create(tiny())
        Scheduler(house.service).turn()
    assert (PUBLIC_ONLY in backend.environment) is not private_urls
