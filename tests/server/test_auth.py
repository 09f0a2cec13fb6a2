"""Nothing is open without a key, keys open what their role and project allow, and everything that changes something is on record."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.serving import Serving, serving

from steep.server.settings import Bounds
from steep.spec.api.attempts import ReportsRequest
from steep.spec.api.projects import ProjectRequest
from steep.spec.errors import Forbidden, NotFound, Unauthorized
from steep.spec.job import JobSpec
from steep.spec.reports import CheckpointReport

OPEN = {("GET", "/healthz"), ("GET", "/readyz")}
OF_WORKERS = tuple(f"/api/v1/attempts/{{job}}/{{number}}/{what}" for what in ("reports", "orders"))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    many = Bounds(failures_per_minute=10_000)  # these tests try more wrong keys than anybody may
    with serving(tmp_path_factory.mktemp("auth"), bounds=many) as house:
        house.service.store.projects.create(ProjectRequest(name="ours"), 1.0)
        house.service.store.projects.create(ProjectRequest(name="theirs"), 1.0)
        yield house


def operations(house: Serving) -> list[tuple[str, str]]:
    """Every method and path of the OpenAPI document, with something in place of parameters."""
    with house.http(house.key()) as http:
        document = http.get("/api/v1/openapi.json").json()
    return [(method.upper(), path) for path, item in document["paths"].items() for method in item]


def filled(path: str) -> str:
    return re.sub(r"\{(step|number)\}", "1", re.sub(r"\{(?!step|number)\w+\}", "HF_TOKEN", path))


def code(answer: httpx.Response) -> str:
    """Which problem an answer tells of, in the shape of its API: ours, or OpenAI's below /v1."""
    if answer.request.url.path.startswith("/v1/"):
        told: dict[str, str] = answer.json()["error"]
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        told = answer.json()
    return told["code"]


def test_no_route_is_open_without_a_key(house: Serving) -> None:
    found = operations(house)
    assert len(found) > 45
    with house.http() as nobody, house.http("steep_" + "x" * 43) as stranger:
        for method, path in [*found, ("GET", "/api/v1/openapi.json")]:
            if (method, path) in OPEN:
                continue
            answer = nobody.request(method, filled(path), json={})
            assert answer.status_code == 401, (method, path)
            assert code(answer) in ("unauthorized", "invalid_api_key"), (method, path, answer.text)
            if path not in OF_WORKERS:
                assert stranger.request(method, filled(path), json={}).status_code == 401, (method, path)


def test_a_viewer_changes_nothing(house: Serving) -> None:
    with house.http(house.key("viewer")) as viewer:
        for method, path in operations(house):
            if path in OF_WORKERS:
                continue
            answer = viewer.request(method, filled(path), params={"name": "x.txt"}, json={})
            if method == "GET":
                wants_more = path.startswith(("/api/v1/keys", "/api/v1/audit"))
                assert (answer.status_code == 403) is wants_more, (method, path, answer.text)
            else:
                assert answer.status_code == 403, (method, path, answer.text)
                assert code(answer) == "forbidden", (method, path, answer.text)


def test_a_member_manages_neither_keys_nor_projects(house: Serving) -> None:
    with house.client("member") as member:
        for ask in (
            lambda: member.keys.create("another"),
            lambda: list(member.keys.list()),
            lambda: member.projects.create("another"),
            lambda: member.projects.change("ours", share=100.0),
            lambda: list(member.audit.list()),
        ):
            with pytest.raises(Forbidden):
                ask()


def test_projects_do_not_see_each_other(house: Serving, tmp_path: Path) -> None:
    store, now = house.service.store, time.time()
    spec = JobSpec.model_validate(
        {"name": "x", "base": "org/x", "corpus": {"sources": ["hf://org/x"]}, "service": {"project": "theirs"}}
    )
    job, _ = store.jobs.submit(spec, now)
    (tmp_path / "theirs.txt").write_text("theirs")
    with house.client("admin", "theirs") as them, house.client("admin", "ours") as us:
        file = them.files.upload(tmp_path / "theirs.txt")
        them.secrets.set("HF_TOKEN", "their secret token")
        key = them.keys.create("theirs too")
        assert [one.id for one in them.jobs.list()] == [job.id]
        assert list(us.jobs.list()) == list(us.files.list()) == list(us.secrets.list()) == []
        assert list(us.jobs.list(project="theirs")) == list(us.files.list(project="theirs")) == []
        assert list(us.events.list()) == []
        assert [one.name for one in us.projects.list()] == ["ours"]
        assert key.id not in [one.id for one in us.keys.list()]
        for ask in (
            lambda: us.jobs.get(job.id),
            lambda: us.jobs.pause(job.id),
            lambda: us.jobs.cancel(job.id),
            lambda: us.jobs.clone(job.id),
            lambda: us.jobs.delete(job.id),
            lambda: list(us.jobs.events(job.id)),
            lambda: list(us.jobs.logs(job.id)),
            lambda: list(us.checkpoints.list(job.id)),
            lambda: us.files.get(file.id),
            lambda: us.files.delete(file.id),
            lambda: us.keys.revoke(key.id),
        ):
            with pytest.raises(NotFound):
                ask()
        for refused in (
            lambda: us.files.upload(tmp_path / "theirs.txt", project="theirs"),
            lambda: us.secrets.set("HF_TOKEN", "x", project="theirs"),
            lambda: us.keys.create("a spy", project="theirs"),
            lambda: us.jobs.create(spec),
        ):
            with pytest.raises(Forbidden):
                refused()
        assert them.jobs.get(job.id).state == "queued"


def test_the_status_tells_a_project_of_its_own_jobs_alone(house: Serving) -> None:
    store, now = house.service.store, time.time()

    def submit(project: str) -> str:
        values = {"name": "x", "base": "org/x", "corpus": {"sources": ["hf://org/x"]}, "service": {"project": project}}
        return store.jobs.submit(JobSpec.model_validate(values), now)[0].id

    with house.client("viewer", "ours") as us, house.client("viewer") as all_of_them:
        before = us.status()
        theirs = submit("theirs")
        begun = store.attempts.begin(theirs, "none", [], now, lease_seconds=60)
        saved = ReportsRequest(reports=(CheckpointReport(sequence=0, step=1, event="saved", size_bytes=10),))
        store.attempts.record_reports(theirs, 1, begun.token, saved, now, lease_seconds=60)
        store.checkpoints.verified(theirs, 1, "damaged", "step 1: a bit has rotten", now)
        told = us.status()
        assert (told.jobs, told.warnings) == (before.jobs, before.warnings)
        assert all_of_them.status().jobs["running"] == 1
        assert any("1 checkpoint is damaged" in warning for warning in all_of_them.status().warnings)
        submit("ours")
        assert us.status().jobs["queued"] == before.jobs.get("queued", 0) + 1


def test_an_order_in_the_name_of_another_project_tells_nothing_of_what_it_has(house: Serving, tmp_path: Path) -> None:
    values = {"name": "mine", "base": "org/x", "corpus": {"sources": ["hf://org/x"]}}
    (tmp_path / "text.txt").write_text("tea " * 1000)
    with house.client("member", "theirs") as them, house.client("member", "ours") as us:
        them.secrets.set("THEIRS", "their secret token")
        theirs = them.files.upload(tmp_path / "text.txt").id
        mine, ours = us.files.upload(tmp_path / "text.txt").id, us.jobs.create(values).id

    def asked(secret: str, file: str) -> list[tuple[int, Any]]:
        """Answers to all orders that may name a project, a secret and a file."""
        alerts = [{"webhook": "https://example.org/", "secret": secret}]
        service = {"project": "theirs", "alerts": alerts}
        general = {"general": [f"steep://files/{file}"]}
        changes = {"service.project": "theirs", "service.alerts": alerts, "evaluation.general": general["general"]}
        method = {"hyperparameters": {"learning_rate_multiplier": 2.0}, "service": service, "evaluation": general}
        order = {
            "model": "org/x", "training_file": mine,
            "method": {"type": "continued_pretraining", "continued_pretraining": method},
        }  # fmt: skip
        batch = {"hyperparameters": {"batch_size": 4}}
        other = {**order, "method": {**order["method"], "continued_pretraining": {**method, **batch}}}
        orders = [
            ("/api/v1/jobs", {"spec": {**values, "service": service, "evaluation": general}}),
            ("/api/v1/jobs?dry_run=true", {"spec": {**values, "service": service, "evaluation": general}}),
            (f"/api/v1/jobs/{ours}/clone", {"set": changes}),
            (f"/api/v1/jobs/{ours}/branch", {"step": 1, "set": changes}),
            ("/v1/fine_tuning/jobs", order),
            ("/v1/fine_tuning/jobs", other),
        ]
        with house.http(house.key("member", "ours")) as http:
            answers = [http.post(path, json=body) for path, body in orders]
        return [(answer.status_code, answer.json()) for answer in answers]

    told = asked("THEIRS", theirs)
    assert {status for status, _ in told} == {403}
    assert told == asked("THEIRS", "file-none") == asked("NONE", theirs)


def test_a_keys_own_project_is_that_of_what_it_makes(house: Serving) -> None:
    values = {"name": "mine", "base": "org/x", "corpus": {"sources": ["hf://org/x"]}}
    with house.client("member", "ours") as us:
        assert us.jobs.create(values).view.project == "ours"


def test_a_revoked_or_expired_key_opens_nothing(house: Serving) -> None:
    secret = house.key("member")
    with house.client() as admin, house.http(secret) as http:
        assert http.get("/api/v1/jobs").status_code == 200
        key = next(one for one in admin.keys.list() if secret.startswith(one.prefix))
        admin.keys.revoke(key.id)
        assert http.get("/api/v1/jobs").status_code == 401
        assert admin.keys.get(key.id).revoked_at is not None
        short = admin.keys.create("short", expires_in_seconds=0.2)
        time.sleep(0.3)
        with house.http(short.secret) as late:
            assert late.get("/api/v1/jobs").status_code == 401


def test_a_secret_is_shown_once_and_stored_nowhere(house: Serving) -> None:
    with house.client() as admin:
        made = admin.keys.create("shown once")
        assert made.secret.startswith("steep_")
        with house.http(house.key()) as http:
            assert made.secret not in http.get("/api/v1/keys").text
        admin.secrets.set("HF_TOKEN", "hf_verysecretvalue")
    with house.http(house.key()) as http:
        assert "hf_verysecretvalue" not in http.get("/api/v1/secrets").text + http.get("/api/v1/audit").text
    database = b"".join(path.read_bytes() for path in house.service.settings.data.glob("steep.db*"))
    assert made.secret.encode() not in database
    assert b"hf_verysecretvalue" not in database
    assert house.service.box.open(house.service.store.secrets.get("default", "HF_TOKEN")) == "hf_verysecretvalue"


def test_an_attempts_token_opens_its_own_reports_and_nothing_else(house: Serving) -> None:
    from steep.compute.contract import Device

    store, now = house.service.store, time.time()
    tokens = []
    for number in range(2):
        values = {"name": f"job{number}", "base": "org/x", "corpus": {"sources": ["hf://org/x"]}}
        job, _ = store.jobs.submit(JobSpec.model_validate(values), now)
        tokens.append(
            store.attempts.begin(job.id, "none", [Device(f"d{number}", "cpu", "x", 1)], now, lease_seconds=60)
        )
    first, second = tokens
    with house.http(first.token) as worker:
        assert worker.post(f"/api/v1/attempts/{first.job_id}/1/reports", json={}).status_code == 200
        for path in (f"{second.job_id}/1", f"{first.job_id}/2"):
            answer = worker.post(f"/api/v1/attempts/{path}/reports", json={})
            assert (answer.status_code, answer.json()["code"]) == (409, "fenced")
        assert worker.get(f"/api/v1/jobs/{first.job_id}").status_code == 401
    with house.http(house.key()) as admin:
        answer = admin.post(f"/api/v1/attempts/{first.job_id}/1/reports", json={})
        assert (answer.status_code, answer.json()["code"]) == (409, "fenced")


def test_who_did_what_is_on_record(house: Serving) -> None:
    with house.client("member", "ours") as us, house.client() as admin:
        job = us.jobs.create({"name": "seen", "base": "org/x", "corpus": {"sources": ["hf://org/x"]}})
        job.cancel()
        with pytest.raises(Forbidden):
            us.keys.create("no")
        entries = list(admin.audit.list())
        me = next(one for one in entries if one.subject.endswith(f"{job.id}/cancel"))
        assert (me.action, me.project, me.outcome) == ("POST /jobs/{job}/cancel", "ours", "done")
        refused = next(one for one in entries if one.actor == me.actor and one.action == "POST /keys")
        assert refused.outcome == "refused"
        assert admin.keys.get(me.actor).role == "member"


def test_uses_are_counted(house: Serving) -> None:
    secret = house.key("viewer")
    with house.http(secret) as http:
        for _ in range(3):
            http.get("/api/v1/jobs")
    store = house.service.store
    key = store.keys.authenticate(secret, time.time())
    assert key is not None
    store.keys.count_use(house.service.uses.take(), time.time())
    assert store.keys.usage(key.id, time.time()).counts[-1] == 3


def test_wrong_keys_are_counted_against_their_address(tmp_path: Path) -> None:
    with serving(tmp_path, bounds=Bounds(failures_per_minute=3)) as house, house.http("steep_guess") as stranger:
        codes = [stranger.get("/api/v1/jobs").status_code for _ in range(8)]
        assert codes[:3] == [401, 401, 401]
        assert 429 in codes[3:]
        with house.client() as admin:
            assert list(admin.jobs.list()) == []


def test_the_client_tells_why(house: Serving) -> None:
    from steep import Client

    with Client(house.address, "steep_wrong") as wrong, pytest.raises(Unauthorized) as error:
        list(wrong.jobs.list())
    assert error.value.cure


def test_every_answer_has_its_headers(house: Serving) -> None:
    for answer in (
        httpx.get(f"{house.address}/healthz"),
        httpx.get(f"{house.address}/api/v1/jobs"),
        httpx.get(f"{house.address}/nowhere"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
