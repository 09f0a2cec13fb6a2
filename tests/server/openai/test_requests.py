"""What OpenAI's client may ask for, and how it is told what it may not: the parameter, and what to do."""

from __future__ import annotations

import asyncio
import json
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from tests.server.openai.clients import openai_client
from tests.server.openai.conftest import METHOD
from tests.server.serving import Serving, serving

from steep.server import uploads
from steep.server.settings import Bounds
from steep.spec.api.projects import ProjectRequest

Order = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, place: Path) -> Iterator[Serving]:
    """A server whose jobs wait: it has no devices and no loops."""
    bounds = Bounds(body_bytes=1 << 20, upload_bytes=4 << 20)
    with serving(tmp_path_factory.mktemp("openai"), roots=(place,), bounds=bounds) as house:
        house.service.store.projects.create(ProjectRequest(name="physics"), house.service.now())
        yield house


@pytest.fixture(scope="module")
def client(house: Serving) -> Iterator[OpenAI]:
    with openai_client(house.address, house.key("member", "default")) as client:
        yield client


@pytest.fixture(scope="module")
def file(client: OpenAI) -> str:
    return client.files.create(file=("manual.txt", b"Some text to learn.\n" * 200), purpose="fine-tune").id


def told(error: Any) -> tuple[int, str | None, str | None]:
    assert isinstance(error.value, openai.APIStatusError)
    assert set(error.value.response.json()["error"]) == {"message", "type", "param", "code"}
    return error.value.status_code, error.value.param, error.value.code


# --------------------------------------------------------------------------------------------------------------- files


def test_files_are_uploaded_listed_read_and_deleted(client: OpenAI, house: Serving) -> None:
    contents = [bytes([number]) * (number * 100_003) for number in range(4)]
    made = [client.files.create(file=(f"{n}.txt", one), purpose="fine-tune") for n, one in enumerate(contents)]
    assert [(one.filename, one.bytes, one.status) for one in made] == [
        (f"{n}.txt", len(one), "processed") for n, one in enumerate(contents)
    ]
    assert client.files.content(made[3].id).content == contents[3]
    assert client.files.retrieve(made[1].id).filename == "1.txt"
    ids = [one.id for one in made]
    listed = [one.id for one in client.files.list(limit=2) if one.id in ids]
    assert listed == ids[::-1]
    assert [one.id for one in client.files.list(limit=1, order="asc") if one.id in ids] == ids
    assert {one.id for one in client.files.list(limit=10_000)} >= set(ids), "as many as OpenAI allows to ask for"
    assert list(client.files.list(purpose="batch")) == []
    assert client.files.delete(made[0].id).deleted
    with pytest.raises(openai.NotFoundError) as error:
        client.files.retrieve(made[0].id)
    assert told(error)[0] == 404
    with house.client() as steep:
        assert {one.id for one in steep.files.list()} >= set(ids[1:])  # the same files


@pytest.mark.parametrize(
    ("fields", "name", "parameter"),
    [
        ({"purpose": "batch"}, "a.txt", "purpose"),
        ({}, "a.txt", "purpose"),
        ({"purpose": "fine-tune", "expires_after[anchor]": "created_at"}, "a.txt", "expires_after[anchor]"),
        ({"purpose": "fine-tune"}, "../a.txt", "name"),
        ({"purpose": "fine-tune"}, None, "file"),
    ],
)
def test_a_form_that_is_wrong_leaves_nothing(
    house: Serving, fields: dict[str, str], name: str | None, parameter: str
) -> None:
    before = {path.name for path in (house.service.settings.data / "files").iterdir()}
    with house.http(house.key("member", "default")) as http:
        files = {"file": (name, b"text")} if name else {"other": ("a.txt", b"text")}
        answer = http.post("/v1/files", data=fields, files=files)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == parameter
    assert {path.name for path in (house.service.settings.data / "files").iterdir()} == before


def test_a_form_is_looked_at_before_its_file_is_known_and_no_disk_holds_up_others(
    house: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    added, held_up = [], []

    def watched(call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def watch(*arguments: Any, **options: Any) -> Any:
            if asyncio._get_running_loop() is not None:
                held_up.append(name)
            return call(*arguments, **options)

        return watch

    add = house.service.store.files.add
    monkeypatch.setattr(house.service.store.files, "add", lambda *all, **more: added.append(all) or add(*all, **more))
    for name in ("sync_directory", "remove_tree", "shutil.rmtree", "os.fsync"):
        real = operator.attrgetter(name)(uploads)
        monkeypatch.setattr(f"steep.server.uploads.{name}", watched(real, name))
    with house.http(house.key("member", "default")) as http:
        assert http.post("/v1/files", files={"file": ("a.txt", b"text")}).status_code == 400
        assert added == []
        file = {"file": ("a.txt", b"text")}
        made = http.post("/v1/files", data={"purpose": "fine-tune"}, files=file).json()["id"]
        assert len(added) == 1
        assert http.delete(f"/v1/files/{made}").status_code == 200
    assert held_up == []


def test_forms_that_are_none_and_those_that_are_cut_off(house: Serving) -> None:
    with house.http(house.key("member", "default")) as http:
        assert http.post("/v1/files", content=b"text").json()["error"]["param"] == "file"
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\ntext'
        for body in (head, b"--y\r\n", b""):
            answer = http.post("/v1/files", content=body, headers=headers)
            assert answer.status_code == 400, body
        big = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("b.txt", b"b" * (5 << 20))})
        assert big.status_code == 413
        assert big.json()["error"]["code"] == "too_large"
    assert not [path for path in (house.service.settings.data / "files").iterdir() if not any(path.iterdir())]


# ---------------------------------------------------------------------------------------------------------------- jobs


def test_an_order_becomes_a_job_spec(client: OpenAI, house: Serving, file: str, order: Order) -> None:
    own = {
        "hyperparameters": {"n_epochs": 3, "batch_size": 4},
        "training": {"sequence_tokens": 128},
        "corpus": {"holdout": "5%", "sources": [{"path": f"steep://files/{file}", "split_documents": "paragraphs"}]},
        "service": {"priority": 7},
    }
    job = client.fine_tuning.jobs.create(**order(file, method=own, metadata={"team": "tea"}))
    spec = house.service.store.jobs.spec(job.id)
    assert spec.name == "manual"
    assert spec.training.budget == (3.0, "epochs")
    assert (spec.training.sequence_tokens, spec.training.global_batch_tokens) == (128, 512)
    assert (spec.corpus.holdout, spec.service.priority, spec.service.project) == (0.05, 7, "default")
    (source,) = spec.corpus.sources
    assert (source.path, source.split_documents) == (f"steep://files/{file}", "paragraphs")
    assert job.hyperparameters.n_epochs == 3
    assert job.hyperparameters.batch_size == 4
    assert job.training_file == file
    assert [one.id for one in client.fine_tuning.jobs.list(metadata={"team": "tea"})] == [job.id]
    assert list(client.fine_tuning.jobs.list(metadata={"team": "coffee"})) == []


def test_a_multiple_of_the_rate_is_of_the_one_that_would_be_derived(
    client: OpenAI, house: Serving, file: str, order: Order
) -> None:
    rates = []
    for multiplier in (1.5, 3.0):
        own = {"budget": "100 steps", "hyperparameters": {"learning_rate_multiplier": multiplier}}
        job = client.fine_tuning.jobs.create(**order(file, method=own))
        rates.append(house.service.store.jobs.spec(job.id).training.learning_rate)
    assert rates[1] == pytest.approx(2 * rates[0], rel=0.01)
    assert 1e-4 < rates[0] < 1e-2
    own = {"budget": "100 steps", "hyperparameters": {"learning_rate_multiplier": 2.0}}
    with pytest.raises(openai.BadRequestError) as error:
        client.fine_tuning.jobs.create(**order(file, method=own, model="some-org/on-the-hub"))
    assert told(error)[1] == "hyperparameters.learning_rate_multiplier"


@pytest.mark.parametrize(
    ("change", "parameter", "words"),
    [
        ({"method": None}, "method", "method: says nothing"),
        ({"method": {"type": "supervised"}}, "method.type", "give it to your SFT tool"),
        ({"method": {"type": "dpo"}}, "method.type", "no preference tuning"),
        ({"method": {"type": "magic"}}, "method.type", "no method 'magic'"),
        ({"training_file": "file-none"}, "training_file", "no file file-none"),
        ({"validation_file": "file-none"}, "validation_file", "no file file-none"),
        ({"model": "/etc"}, "model", "outside of what jobs may read"),
        ({"model": "https://example.org/x"}, "model", "no URL"),
        ({"suffix": "two words"}, "suffix", "match pattern"),
        ({"metadata": {"a=b": "c"}}, "metadata.a=b.[key]", "match pattern"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"hyperparameters": {"n_epochs": 2}}, "method.continued_pretraining.training.budget", "Give one of"),
        ({"integrations": [{"type": "wandb"}]}, "integrations", "STEEP_OBSERVERS"),
        ({"temperature": 1}, "temperature", "not permitted"),
        ({"method": {"type": METHOD, METHOD: {"deadline": float("inf")}}}, "method", "more than can be counted"),
        ({"method": {"type": METHOD, METHOD: {"replay": "s3://a/\ud800"}}}, "method", "no text"),
    ],
)
def test_a_wrong_order_names_its_parameter(
    house: Serving, file: str, order: Order, change: dict[str, Any], parameter: str, words: str
) -> None:
    body = {**order(file), **change}
    with house.http(house.key("member", "default")) as http:
        json_type = {"Content-Type": "application/json"}
        answer = http.post("/v1/fine_tuning/jobs", content=json.dumps(body), headers=json_type)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == parameter
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_wrong_key_of_the_spec_says_what_was_meant(client: OpenAI, file: str, order: Order) -> None:
    with pytest.raises(openai.BadRequestError, match="did you mean 'learning_rate'"):
        client.fine_tuning.jobs.create(**order(file, method={"training": {"lerning_rate": 1e-4}}))
    with pytest.raises(openai.BadRequestError, match="outside of what jobs may read"):
        client.fine_tuning.jobs.create(**order(file, method={"replay": "/etc/passwd"}))


def test_jobs_are_steered_and_listed_by_pages(client: OpenAI, house: Serving, file: str, order: Order) -> None:
    made = [client.fine_tuning.jobs.create(**order(file, metadata={"list": "yes"})).id for _ in range(5)]
    listed = [one.id for one in client.fine_tuning.jobs.list(limit=2, metadata={"list": "yes"})]
    assert sorted(listed) == sorted(made)
    assert len(listed) == len(made)
    job = made[0]
    assert client.fine_tuning.jobs.pause(job).status == "paused"
    assert client.fine_tuning.jobs.resume(job).status == "queued"
    assert client.fine_tuning.jobs.cancel(job).status == "cancelled"
    kinds = [event.data["kind"] for event in client.fine_tuning.jobs.list_events(job, limit=2)]
    assert kinds == ["cancelled", "released", "paused", "queued", "created"]
    with pytest.raises(openai.ConflictError) as error:
        client.fine_tuning.jobs.pause(job)
    assert told(error)[0] == 409
    assert error.value.response.headers["x-should-retry"] == "false"
    assert client.fine_tuning.jobs.checkpoints.list(job).data == []
    with pytest.raises(openai.BadRequestError) as error:
        client.fine_tuning.jobs.list(after="job-none")
    assert told(error)[1] == "after"
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.list_events(job, after="ftevent-x")


def test_jobs_that_only_measure_are_none_here(client: OpenAI, house: Serving, file: str, order: Order) -> None:
    job = client.fine_tuning.jobs.create(**order(file, metadata={"kind": "of"}))
    store, now = house.service.store, house.service.now()
    measuring, _ = store.jobs.submit(store.jobs.spec(job.id), now, parent=(job.id, 20), kind="evaluation")
    assert [one.id for one in client.fine_tuning.jobs.list(metadata={"kind": "of"})] == [job.id]
    for ask in (client.fine_tuning.jobs.retrieve, client.fine_tuning.jobs.cancel, client.fine_tuning.jobs.list_events):
        with pytest.raises(openai.NotFoundError, match="trains nothing"):
            ask(measuring.id)
    assert not store.jobs.get(measuring.id, now).standing.is_terminal


def test_the_same_order_under_one_key_is_one_job(client: OpenAI, file: str, order: Order) -> None:
    again = {"extra_headers": {"Idempotency-Key": "once"}}
    ids = {client.fine_tuning.jobs.create(**order(file), **again).id for _ in range(3)}
    assert len(ids) == 1
    with pytest.raises(openai.ConflictError, match="another request"):
        client.fine_tuning.jobs.create(**order(file, suffix="other"), **again)


# ---------------------------------------------------------------------------------------------------- keys and projects


def test_without_a_good_key_nothing_is_told(house: Serving) -> None:
    with openai_client(house.address, "steep_wrong") as client:
        with pytest.raises(openai.AuthenticationError) as error:
            client.models.list()
        assert told(error)[2] == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            client.completions.create(model="tiny-base", prompt="x")
    with openai_client(house.address, house.key("viewer")) as client:
        assert client.models.list().data[0].id == "tiny-base"
        with pytest.raises(openai.PermissionDeniedError, match="a member may"):
            client.files.create(file=("a.txt", b"x"), purpose="fine-tune")
        with pytest.raises(openai.PermissionDeniedError):
            client.completions.create(model="tiny-base", prompt="x")


def test_another_projects_things_do_not_exist(client: OpenAI, house: Serving, file: str, order: Order) -> None:
    job = client.fine_tuning.jobs.create(**order(file)).id
    with openai_client(house.address, house.key("member", "physics")) as stranger:
        for resource, there in ((stranger.files, file), (stranger.fine_tuning.jobs, job)):
            for known in (there, "nobody-knows-it"):
                with pytest.raises(openai.BadRequestError, match=f"there is no {known}"):
                    resource.list(after=known)
        assert list(stranger.files.list()) == []
        assert list(stranger.fine_tuning.jobs.list()) == []
        for ask in (
            lambda: stranger.files.retrieve(file),
            lambda: stranger.files.content(file),
            lambda: stranger.files.delete(file),
            lambda: stranger.fine_tuning.jobs.retrieve(job),
            lambda: stranger.fine_tuning.jobs.cancel(job),
            lambda: stranger.fine_tuning.jobs.list_events(job),
            lambda: stranger.fine_tuning.jobs.checkpoints.list(job),
            lambda: stranger.models.retrieve(f"ft:{job}"),
            lambda: stranger.completions.create(model=f"ft:{job}:step-1", prompt="x"),
        ):
            with pytest.raises(openai.NotFoundError):
                ask()
        with pytest.raises(openai.BadRequestError) as error:
            stranger.fine_tuning.jobs.create(**order(file))
        assert told(error)[1] == "training_file"
    with openai_client(house.address, house.key("admin"), project="physics") as admin:
        made = admin.files.create(file=("p.txt", b"text"), purpose="fine-tune").id
        assert house.service.store.files.get(made).project == "physics"
        assert [one.id for one in admin.files.list()] == [made]
        assert list(admin.fine_tuning.jobs.list()) == []
    with openai_client(house.address, house.key("admin")) as admin:
        assert admin.fine_tuning.jobs.create(**order(made)).organization_id == "physics"  # the file's own project


# -------------------------------------------------------------------------------------------------- models, completions


@pytest.mark.parametrize("name", ["gpt-4", "ft:job-none", "ft:job-none:step-3", "ft:", "ft:x:step-", "../etc"])
def test_a_model_that_is_not_there(client: OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        client.completions.create(model=name, prompt="x")
    assert told(error) == (404, "model", "model_not_found")
    assert "GET /v1/models" in str(error.value)


def test_models_are_deleted_elsewhere(client: OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError, match="comes with Steep"):
        client.models.delete("tiny-base")


@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"suffix": "and so on"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"n": 65}, "n"),
        ({"n": 40, "prompt": ["a", "b"]}, "n"),
        ({"top_p": 0}, "top_p"),
        ({"temperature": -1}, "temperature"),
        ({"logprobs": 9}, "logprobs"),
        ({"stop": ["x"] * 20}, "stop"),
        ({"prompt": [[1, 2], ["x"]]}, None),
        ({"prompt": "\ud800"}, None),
        ({"prompt": [-1]}, None),
    ],
)
def test_what_is_not_done_is_refused_before_a_model_is_loaded(
    house: Serving, asked: dict[str, Any], parameter: str | None
) -> None:
    body = json.dumps({"model": "tiny-base", "prompt": "x", **asked})
    with house.http(house.key("member", "default")) as http:
        answer = http.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == parameter or (parameter is None and "prompt" in answer.text)


def test_paths_and_bodies_that_are_none(house: Serving) -> None:
    with house.http(house.key()) as http:
        for answer in (http.get("/v1/nothing"), http.put("/v1/models"), http.post("/v1/completions", content=b"{")):
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
            assert answer.headers["content-type"] == "application/json"
        assert http.get("/api/v1/nothing").headers["content-type"] == "application/problem+json"
        large = http.post("/v1/completions", content=b"x" * (2 << 20))
        assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")


def test_what_breaks_in_the_server_is_told_in_the_same_words(house: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ValueError("a secret detail")

    monkeypatch.setattr(house.service.store.files, "list", broken)
    with house.http(house.key()) as http:
        answer = http.get("/v1/files")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text


def test_answers_are_not_kept_by_anybody(house: Serving) -> None:
    answer = httpx.get(f"{house.address}/v1/models", headers={"Authorization": f"Bearer {house.key()}"})
    assert answer.headers["cache-control"] == "no-store"
