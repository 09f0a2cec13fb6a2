"""A request that makes something, and that is sent again because its answer was lost, makes it once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from tests.server.serving import Serving, serving

from steep.server.secretbox import SecretBox
from steep.server.store import keys as keys_module

KEY = {"Idempotency-Key": "lost"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, place: Path) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("repeats"), roots=(place,)) as house:
        yield house


@pytest.fixture
def http(house: Serving) -> Iterator[httpx.Client]:
    with house.http(house.key()) as http:
        yield http


def count(http: httpx.Client, noun: str) -> int:
    return http.get(f"/api/v1/{noun}", params={"include_total": True}).json()["total"]


Post = Callable[..., httpx.Response]


def upload(http: httpx.Client, text: str = "tea", **headers: str) -> httpx.Response:
    return http.post("/api/v1/files", params={"name": "tea.txt"}, content=text.encode(), headers=headers)


def project(http: httpx.Client, name: str = "tea", **headers: str) -> httpx.Response:
    return http.post("/api/v1/projects", json={"name": name}, headers=headers)


def key(http: httpx.Client, name: str = "tea", **headers: str) -> httpx.Response:
    return http.post("/api/v1/keys", json={"name": name}, headers=headers)


@pytest.mark.parametrize(("noun", "post", "other"), [
    ("files", upload, "coffee"), ("projects", project, "coffee"), ("keys", key, "coffee"),
])  # fmt: skip
def test_the_same_request_makes_one_and_another_is_refused(
    http: httpx.Client, noun: str, post: Post, other: str
) -> None:
    before = count(http, noun)
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(post(http, **KEY))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.status_code for one in answers] == [201] * 4
    assert len({one.text for one in answers}) == 1
    assert count(http, noun) == before + 1
    refused = post(http, other, **KEY)
    assert (refused.status_code, refused.json()["field"]) == (409, "Idempotency-Key")
    assert post(http, other, **{"Idempotency-Key": "a new one"}).status_code == 201
    assert count(http, noun) == before + 2


def test_a_file_that_was_sent_again_lies_there_once(house: Serving, http: httpx.Client) -> None:
    files = house.service.settings.data / "files"
    first = upload(http, "again", **{"Idempotency-Key": "again"}).json()["id"]
    there = sorted(path.name for path in files.iterdir())
    assert upload(http, "again", **{"Idempotency-Key": "again"}).json()["id"] == first
    assert sorted(path.name for path in files.iterdir()) == there
    assert http.get(f"/api/v1/files/{first}/content").text == "again"
    assert http.delete(f"/api/v1/files/{first}").status_code == 200
    assert upload(http, "again", **{"Idempotency-Key": "again"}).status_code == 404, "it was deleted meanwhile"


def test_a_secret_is_shown_again_to_whoever_lost_it_and_to_nobody_else(
    house: Serving, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = key(http, "mine", **{"Idempotency-Key": "mine"}).json()
    assert key(http, "mine", **{"Idempotency-Key": "mine"}).json()["secret"] == made["secret"]
    with house.http(made["secret"]) as opened:
        assert opened.get("/api/v1/status").status_code == 200
    with house.http(house.key()) as another_admin:
        assert key(another_admin, "mine", **{"Idempotency-Key": "mine"}).status_code == 409
    monkeypatch.setattr(keys_module, "ANSWER_SECONDS", -1.0)
    late = key(http, "mine", **{"Idempotency-Key": "mine"})
    assert late.status_code == 409
    assert made["secret"] not in late.text
    assert f"steep keys revoke {made['id']}" in late.json()["cure"]


def test_no_secret_is_shown_that_would_open_nothing(
    house: Serving, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    key(http, "gone", **{"Idempotency-Key": "gone"})
    monkeypatch.setattr(house.service, "box", SecretBox(Fernet.generate_key()))
    again = key(http, "gone", **{"Idempotency-Key": "gone"})
    assert again.status_code == 409
    assert "secret" not in again.json()


def test_without_a_name_each_request_makes_one(http: httpx.Client) -> None:
    secrets = {key(http, "twice").json()["secret"] for _ in range(2)}
    assert len(secrets) == 2
    assert upload(http).json()["id"] != upload(http).json()["id"]


def test_a_secret_is_stored_in_place_of_the_same_one(http: httpx.Client) -> None:
    """PUT needs no key: it does the same twice as once."""
    body: dict[str, Any] = {"value": "word"}
    for _ in range(2):
        assert http.put("/api/v1/secrets/TEA", json=body).status_code == 200
    assert [one["name"] for one in http.get("/api/v1/secrets").json()["items"]] == ["TEA"]
