"""What is asked of the server, rightly and wrongly: each wrong thing is named, with its field and a cure, and nothing breaks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from blake3 import blake3
from tests.server.serving import Serving, serving, wait_for

from steep import Client
from steep.artifacts.checkpoints import CheckpointCatalog
from steep.compute.local.backend import LocalBackend
from steep.corpus.addresses import is_public
from steep.server.admission import PACKAGED
from steep.spec.api.projects import ProjectRequest, Quota
from steep.spec.errors import Conflict, Forbidden, InvalidInput, InvalidSpec, NotFound
from steep.spec.events import EventKind
from steep.spec.service import Limits
from steep.spec.states import Reason, State

Tiny = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, place: Path) -> Iterator[Serving]:
    """A server whose jobs wait: it has no devices and no loops."""
    with serving(tmp_path_factory.mktemp("requests"), roots=(place,)) as house:
        yield house


@pytest.fixture(scope="module")
def client(house: Serving) -> Iterator[Client]:
    with house.client() as client:
        yield client


@pytest.fixture(scope="module")
def http(house: Serving) -> Iterator[httpx.Client]:
    with house.http(house.key()) as http:
        yield http


# ---------------------------------------------------------------------------------------------------------- submitting


def test_under_one_key_one_job_is_made(client: Client, tiny: Tiny) -> None:
    made: list[str] = []

    def submit() -> None:
        made.append(client.jobs.create(tiny("once"), idempotency_key="the same").id)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1
    assert len(list(client.jobs.list(name="once"))) == 1
    with pytest.raises(Conflict, match="another request"):
        client.jobs.create(tiny("twice"), idempotency_key="the same")


def test_a_wrong_spec_names_its_field_and_what_was_meant(http: httpx.Client, tiny: Tiny) -> None:
    spec = tiny("wrong")
    spec["training"]["lerning_rate"] = spec["training"].pop("learning_rate")
    answer = http.post("/api/v1/jobs", json={"spec": spec})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_spec")
    assert problem["field"] == "spec.training.lerning_rate"
    assert "did you mean 'learning_rate'?" in problem["detail"]
    assert problem["cure"]


def test_the_base_that_comes_with_steep_may_be_read_on_every_server(client: Client, tiny: Tiny) -> None:
    spec = tiny("packaged")
    spec["base"] = str(PACKAGED / "tiny-base")
    assert client.jobs.plan(spec).valid
    spec["corpus"]["sources"] = [str(PACKAGED / "tiny-base")]
    with pytest.raises(InvalidSpec, match="outside of what jobs may read"):
        client.jobs.plan(spec)


@pytest.mark.parametrize(
    ("where", "path", "why"),
    [
        ("corpus", "/etc/passwd", "outside of what jobs may read"),
        ("corpus", "{place}/../../etc/passwd", "outside of what jobs may read"),
        ("corpus", "{place}/text/*/../../../../../etc/passwd", "outside of what jobs may read"),
        ("corpus", "{place}/link/passwd", "outside of what jobs may read"),
        ("corpus", "/*", "outside of what jobs may read"),
        ("corpus", "relative.txt", "not an absolute path"),
        ("corpus", "file:///etc/passwd", "no way to read file://"),
        ("corpus", "gopher://example.org/", "no way to read gopher://"),
        ("corpus", "steep://files/file-unknown", "no such file"),
        ("corpus", "steep://files/../steep.db", "no such file"),
        ("corpus", "http://127.0.0.1:9/x.txt", "no public address"),
        ("corpus", "http://localhost/x.txt", "no public address"),
        ("corpus", "http://169.254.169.254/latest/meta-data/", "no public address"),
        ("corpus", "http://10.1.2.3/x", "no public address"),
        ("corpus", "http://[::1]/x", "no public address"),
        ("corpus", "http://[::ffff:10.0.0.1]/x", "no public address"),
        ("corpus", "http://0x7f000001/x", "no public address"),
        ("corpus", "https://user:word@93.184.216.34/x", "password"),
        ("corpus", "http:///x", "no host"),
        ("general", "/etc/passwd", "outside of what jobs may read"),
        ("replay", "/etc/passwd", "outside of what jobs may read"),
        ("tasks", "/etc/task.yaml", "outside of what jobs may read"),
        ("store", "/var/checkpoints", "outside of what jobs may read"),
        ("base", "/etc", "outside of what jobs may read"),
        ("base", "../../etc", "not an absolute path"),
        ("base", "http://10.0.0.1/model", "no URL"),
        ("tokenizer", "/etc", "outside of what jobs may read"),
    ],
)
def test_what_a_job_may_not_read_is_refused(
    client: Client, house: Serving, place: Path, tiny: Tiny, where: str, path: str, why: str
) -> None:
    if not (place / "link").exists():
        (place / "link").symlink_to("/etc")
    path = path.format(place=place)
    spec = tiny("spy")
    match where:
        case "corpus":
            spec["corpus"]["sources"] = [path]
        case "general":
            spec["evaluation"]["general"] = [path]
        case "tasks":
            spec["evaluation"]["tasks"] = [path]
        case "replay":
            spec["replay"] = {"source": {"path": path}}
        case "store":
            spec["checkpoints"]["store"] = path
        case "base":
            spec["base"] = path
        case "tokenizer":
            spec["base"]["from_scratch"]["tokenizer"] = path
    answer = _post(house, spec)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert why in problem["detail"]
    assert problem["code"] == "invalid_spec"
    assert where.replace("tokenizer", "base").replace("general", "evaluation").replace("tasks", "evaluation") in (
        problem["field"].replace("checkpoints.store", "store")
    )
    assert list(client.jobs.list(name="spy")) == []


def _post(house: Serving, spec: dict[str, Any]) -> httpx.Response:
    with house.http(house.key("member")) as http:
        return http.post("/api/v1/jobs", json={"spec": spec})


def test_what_a_job_may_read_is_taken(client: Client, place: Path, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("some text")
    file = client.files.upload(tmp_path / "one.txt")
    spec = tiny("reader")
    spec["corpus"]["sources"] = [
        str(place / "text" / "*.txt"), f"steep://files/{file.id}", "http://93.184.216.34/x.txt", "s3://b/x", "hf://o/x",
    ]  # fmt: skip
    job = client.jobs.create(spec)
    assert job.state == "queued"


def test_a_dry_run_says_what_a_job_would_take_and_takes_nothing(tmp_path: Path, place: Path, tiny: Tiny) -> None:
    backend = LocalBackend(tmp_path, cpu_slots=1, warm=False)
    with serving(tmp_path / "data", {"local": backend}, roots=(place,)) as house, house.client("member") as client:
        plan = client.jobs.plan(tiny("planned", steps=60))
        assert (plan.steps, plan.tokens) == (60, 60 * 256)
        assert plan.memory_bytes
        assert {"field", "value", "reason"} <= set(plan.decisions[0])
        assert (len(plan.notes), plan.warnings) == (2, ())
        assert list(client.jobs.list()) == []
        spec = tiny("planned", gpu_count=1)
        assert any("wait for one" in warning for warning in client.jobs.plan(spec).warnings)
        with pytest.raises(InvalidSpec):
            client.jobs.plan(tiny("planned", project="nobodys"))


def test_a_file_of_another_project_is_none(client: Client, house: Serving, tiny: Tiny, tmp_path: Path) -> None:
    house.service.store.projects.create(ProjectRequest(name="elsewhere"), 1.0)
    (tmp_path / "one.txt").write_text("some text")
    file = client.files.upload(tmp_path / "one.txt", project="elsewhere")
    spec = tiny("thief")
    spec["corpus"]["sources"] = [f"steep://files/{file.id}"]
    with pytest.raises(InvalidSpec, match="no such file"):
        client.jobs.create(spec)


def test_code_that_comes_with_a_model_is_not_run(client: Client, tiny: Tiny) -> None:
    spec = tiny("code")
    spec["base"] = {"model": "org/name", "trust_remote_code": True}
    with pytest.raises(Forbidden, match="runs no code"):
        client.jobs.create(spec)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("192.168.0.1", False), ("100.64.0.1", False),
        ("0.0.0.0", False), ("224.0.0.1", False), ("fe80::1%eth0", False), ("fd00::1", False), ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


# ------------------------------------------------------------------------------------------------------------ steering


def test_a_job_that_waits_is_paused_resumed_changed_cloned_and_cancelled(client: Client, tiny: Tiny) -> None:
    job = client.jobs.create(tiny("steered"))
    assert job.pause().standing.reason is Reason.HELD_BY_USER
    assert job.pause().standing.reason is Reason.HELD_BY_USER
    assert client.jobs.get(client.jobs.create(tiny("ahead")).id).view.position is not None  # places are known now
    assert job.resume().standing.reason is Reason.RESUMED
    assert client.jobs.get(job.id).view.position is not None  # and this one came since
    assert job.resume().standing.state is State.QUEUED  # once more, as when the answer was lost
    assert client.jobs.change(job.id, priority=7, tags=("a", "b")).view.priority == 7
    client.jobs.change(job.id, limits=Limits(time=60.0))
    assert client.jobs.change(job.id, limits=Limits(tokens=9.0)).view.limits == Limits(time=60.0, tokens=9.0)
    assert client.jobs.change(job.id, limits=Limits(time=None)).view.limits == Limits(tokens=9.0)
    assert [one.id for one in client.jobs.list(tag="a")] == [job.id]
    copy = client.jobs.clone(job.id, name="copy", set={"training.budget": "9 steps"})
    assert client.jobs.detail(copy.id).spec.training.budget != client.jobs.detail(job.id).spec.training.budget
    with pytest.raises(InvalidInput):
        client.jobs.clone(job.id, set={"training.budgt": "9 steps"})
    with pytest.raises(Conflict, match="is queued"):
        job.delete()
    assert job.cancel().state == "cancelled"
    with pytest.raises(Conflict):
        job.pause()
    job.delete()
    with pytest.raises(NotFound):
        client.jobs.get(job.id)


def test_pages_and_filters(client: Client, http: httpx.Client, tiny: Tiny) -> None:
    made = [client.jobs.create(tiny(f"page-{number}", held=number == 0)).id for number in range(5)]
    query = {"name": "page-", "page_size": 2, "sort_by": "created_at", "sort_order": "asc", "include_total": "true"}
    page = http.get("/api/v1/jobs", params=query).json()
    assert ([one["id"] for one in page["items"]], page["has_more"], page["total"]) == (made[:2], True, 5)
    assert [one.id for one in client.jobs.list(name="page-", sort_by="name", sort_order="asc")] == made
    held = http.get("/api/v1/jobs", params={"name": "page-", "paused": "true"}).json()
    assert [one["id"] for one in held["items"]] == made[:1]
    for query in ({"page": 0}, {"page_size": 5000}, {"sort_by": "secret"}, {"state": "asleep"}, {"sort_order": "up"}):
        answer = http.get("/api/v1/jobs", params=query)
        assert answer.status_code == 422, query
        assert answer.json()["field"].partition(".")[0] in query


# --------------------------------------------------------------------------------------------------------------- files


def test_a_file_comes_back_as_it_went(client: Client, http: httpx.Client, house: Serving, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000
    (tmp_path / "a file.bin").write_bytes(content)
    file = client.files.upload(tmp_path / "a file.bin")
    assert (file.size_bytes, file.blake3) == (len(content), blake3(content).hexdigest())
    client.files.download(file.id, tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == content
    part = http.get(f"/api/v1/files/{file.id}/content", headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, content[1000:2000])
    beyond = http.get(f"/api/v1/files/{file.id}/content", headers={"Range": f"bytes={len(content)}-"})
    assert beyond.status_code == 416
    assert client.files.delete(file.id).freed_bytes == len(content)
    assert not house.service.settings.file_directory(file.id).exists()


def test_an_upload_that_is_not_what_was_said_leaves_nothing(http: httpx.Client, house: Serving) -> None:
    before = sorted((house.service.settings.data / "files").iterdir())
    wrong = {"name": "x.txt", "blake3": "0" * 64}
    answer = http.post("/api/v1/files", params=wrong, content=b"text")
    assert (answer.status_code, answer.json()["field"]) == (422, "blake3")
    assert sorted((house.service.settings.data / "files").iterdir()) == before


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".hidden", "", "a\\b", "x\x00", "x\n", "\u202ex", "x" * 300])
def test_a_name_is_no_path(http: httpx.Client, name: str) -> None:
    answer = http.post("/api/v1/files", params={"name": name}, content=b"text")
    assert (answer.status_code, answer.json()["field"]) == (422, "name")


def test_a_full_project_takes_no_more(client: Client, tmp_path: Path) -> None:
    client.projects.create("small", quota=Quota(stored_bytes=10))
    (tmp_path / "x.txt").write_text("more than ten bytes")
    (tmp_path / "ten.txt").write_text("ten bytes.")
    with pytest.raises(InvalidInput, match="has no room for it"):
        client.files.upload(tmp_path / "x.txt", project="small")
    client.files.upload(tmp_path / "ten.txt", project="small")
    with pytest.raises(InvalidInput, match="filled its storage"):
        client.files.upload(tmp_path / "ten.txt", project="small")


@pytest.mark.parametrize(
    "path", ["../job.yaml", "..%2Fjob.yaml", "%2e%2e/job.yaml", "/etc/passwd", "model.safetensors/../../job.yaml"]
)
def test_no_path_leads_out_of_an_export_or_a_checkpoint(house: Serving, client: Client, tiny: Tiny, path: str) -> None:
    job = client.jobs.create(tiny("export"))
    run = house.service.run(job.id)
    run.export.mkdir(parents=True)
    (run.export / "config.json").write_text("{}")
    (run.export / "link.txt").symlink_to("/etc/passwd")
    run.job_file.write_text("name: secret")
    with house.http(house.key("viewer")) as http:
        assert http.get(f"/api/v1/jobs/{job.id}/export/files/config.json").status_code == 200
        assert http.get(f"/api/v1/jobs/{job.id}/export/files/link.txt").status_code == 404
        for base in ("export/files", "checkpoints/1/files"):
            answer = http.get(f"/api/v1/jobs/{job.id}/{base}/{path}")
            assert answer.status_code == 404, (answer.status_code, answer.text)
            assert "secret" not in answer.text


# -------------------------------------------------------------------------------------------------------------- bounds


def test_a_body_may_not_be_too_large(http: httpx.Client) -> None:
    answer = http.post("/api/v1/jobs", content=b"{" + b" " * (9 << 20))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_what_is_not_there_or_not_known_is_told_as_a_problem(http: httpx.Client) -> None:
    for method, path, status in (
        ("GET", "/api/v1/nothing", 404), ("DELETE", "/api/v1/jobs", 405), ("GET", "/api/v1/jobs/job-none", 404),
        ("GET", "/", 404),
    ):  # fmt: skip
        answer = http.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]
    broken = http.post("/api/v1/jobs", content=b"{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, broken.json()["field"]) == (422, "body")
    unread = http.post("/api/v1/jobs", content=b"\xf6f", headers={"Content-Type": "application/json"})
    assert (unread.status_code, unread.json()["field"]) == (422, "body")


def test_what_goes_wrong_inside_is_not_told(house: Serving, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(house.service.store.jobs, "owner", fail)
    with house.http(house.key()) as http:
        answer = http.get("/api/v1/jobs/job-x")
    assert answer.status_code == 500
    assert "swordfish" not in answer.text
    assert "Traceback" not in answer.text
    assert "swordfish" in caplog.text


def test_one_key_cannot_ask_for_ever(tmp_path: Path) -> None:
    from steep.server.settings import Bounds

    with serving(tmp_path, bounds=Bounds(requests_per_second=1.0, burst_requests=5)) as house:
        with house.http(house.key()) as http:
            answers = [http.get("/api/v1/jobs") for _ in range(8)]
        assert [one.status_code for one in answers] == [200] * 5 + [429] * 3
        assert answers[-1].headers["retry-after"]
        with house.http(house.key()) as another:
            assert another.get("/api/v1/jobs").status_code == 200


def test_a_client_that_falls_silent_is_let_go(tmp_path: Path) -> None:
    from steep.server.settings import Bounds

    with serving(tmp_path, bounds=Bounds(silence_seconds=0.5)) as house:
        head = f"POST /api/v1/files?name=x.txt HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key()}\r\nContent-Length: 9"
        with socket.create_connection(("127.0.0.1", house.service.settings.port), timeout=20) as slow:
            slow.sendall(f"{head}\r\n\r\nhalf".encode())
            assert b"200" not in slow.recv(4096)
        wait_for(lambda: not list((tmp_path / "files").iterdir()))
        with house.client() as client:
            assert list(client.files.list()) == []


def test_streams_of_events_end_with_the_server_and_go_on_with_the_next(
    house: Serving, tmp_path: Path, tiny: Tiny
) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(serving(tmp_path, roots=house.service.settings.roots))
        client = stack.enter_context(other.client())
        seen: list[int] = []

        def listen() -> None:
            for event in client.events.watch():
                seen.append(event.id)
                if event.kind is EventKind.CANCELLED:
                    return

        job = client.jobs.create(tiny("watched"))
        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        wait_for(lambda: len(seen) == 2)
        begun = time.monotonic()
        other.service.news.end()
        wait_for(lambda: other.service.num_streams == 0, 5)
        assert time.monotonic() - begun < 2
        other.service.news.is_over = False  # as the next server
        job.cancel()
        listener.join(20)
        assert seen == [1, 2, 3]


def test_metrics_tell_how_much_there_is_to_do(http: httpx.Client, client: Client, tiny: Tiny) -> None:
    client.jobs.create(tiny("counted"))
    text = http.get("/metrics").text
    assert 'steep_jobs{state="queued"}' in text
    assert "steep_queue_jobs" in text
    assert "steep_queue_longest_wait_seconds" in text


def test_a_checkpoint_is_pinned_and_verified(house: Serving, client: Client, tiny: Tiny) -> None:
    from steep.spec.api.attempts import ReportsRequest
    from steep.spec.reports import CheckpointReport

    job = client.jobs.create(tiny("kept"))
    store, now = house.service.store, time.time()
    begun = store.attempts.begin(job.id, "none", [], now, lease_seconds=60)
    catalog = CheckpointCatalog(house.service.run(job.id).checkpoints)
    staging = catalog.stage(8)
    (staging / "weights.safetensors").write_bytes(b"weights")
    catalog.commit(
        8, tokens_seen=1, cursor=1, spec_fingerprint="s", order_fingerprint="o", model_fingerprint="m"
    )  # fmt: skip
    saved = CheckpointReport(step=8, event="saved", size_bytes=7, tokens_seen=1)
    store.attempts.record_reports(
        job.id, 1, begun.token, ReportsRequest(reports=(saved,)), now, lease_seconds=60
    )  # fmt: skip
    assert client.checkpoints.pin(job.id, 8).pinned
    assert catalog.pinned(8)
    assert client.checkpoints.verify(job.id, 8).state == "valid"
    (catalog.path(8) / "weights.safetensors").write_bytes(b"damaged")
    assert client.checkpoints.verify(job.id, 8).state == "damaged"
    with pytest.raises(Conflict, match="uses the checkpoints"):
        client.checkpoints.delete(job.id, 8)


def test_no_answer_names_a_path_of_the_server(house: Serving, http: httpx.Client, client: Client, tiny: Tiny) -> None:
    job = client.jobs.create(tiny("nowhere", held=True)).id
    for order, body in (("rollback", {"step": 7}), ("branch", {"step": 7})):
        refused = http.post(f"/api/v1/jobs/{job}/{order}", json=body)
        assert refused.status_code in (404, 422)
        assert str(house.service.settings.data) not in refused.text
        assert refused.json()["field"]
