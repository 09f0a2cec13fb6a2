"""Models in memory: begun when asked for, a few at a time, ended when nobody asks, and with the server."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from openai import OpenAI
from tests.server.openai.clients import openai_client
from tests.server.serving import Serving, serving, wait_for

from steep.server.openai import names
from steep.server.settings import Completing

LONG: dict[str, Any] = {"model": "tiny-base", "prompt": list("abcdefgh" * 8), "max_tokens": 500, "temperature": 2}
"""All of it takes a minute and more."""

SHORT: dict[str, Any] = {"model": "tiny-base", "prompt": "The function", "max_tokens": 3, "temperature": 0}


def models() -> list[psutil.Process]:
    """Processes of this one that hold a model."""
    children = psutil.Process().children(recursive=True)
    return [one for one in children if "steep.worker.completions" in " ".join(cmdline(one))]


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        few = Completing(models=1, waiting=1, idle_seconds=2.5)
        with serving(tmp_path_factory.mktemp("pool"), completing=few) as house:
            yield house
    assert models() == []  # they end with the server


@pytest.fixture(scope="module")
def client(house: Serving) -> Iterator[OpenAI]:
    with openai_client(house.address, house.key("member")) as client:
        yield client


def test_requests_wait_for_one_another_and_too_many_are_sent_away(client: OpenAI) -> None:
    with client.completions.create(**LONG, stream=True) as long:
        next(iter(long))
        answers: list[str] = []
        waiting = threading.Thread(target=lambda: answers.append(client.completions.create(**SHORT).choices[0].text))
        waiting.start()
        time.sleep(0.3)
        with pytest.raises(openai.RateLimitError) as error:
            client.completions.create(**SHORT)
        assert int(error.value.response.headers["retry-after"]) > 0
        assert error.value.type == "rate_limit_error"
        assert not answers
    waiting.join(40)  # who hangs up gives way
    assert answers == [client.completions.create(**SHORT).choices[0].text]
    assert len(models()) == 1


def test_a_client_that_hangs_up_without_a_stream_gives_way_too(
    client: OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    client.completions.create(**SHORT)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=1).completions.create(**LONG)
    begun = time.monotonic()
    client.completions.create(**SHORT)
    assert time.monotonic() - begun < 15
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_process_that_dies_is_told_of_and_another_takes_its_place(client: OpenAI) -> None:
    client.completions.create(**SHORT)
    (before,) = models()
    with client.completions.create(**LONG, stream=True) as long:
        next(iter(long))
        before.send_signal(signal.SIGKILL)
        with pytest.raises(openai.APIError, match="has ended"):
            list(long)
    client.completions.create(**SHORT)
    (after,) = models()
    assert after != before


def test_the_one_that_waits_longest_makes_room_and_one_in_use_does_not(
    client: OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    shutil.copytree(names.PACKAGED / "tiny-base", other)
    find = names.find_model

    def with_other(here: Any, caller: Any, name: str) -> names.Model:
        return names.Model(name, 0.0, "default", "default", other) if name == "other" else find(here, caller, name)

    monkeypatch.setattr("steep.server.openai.completions.find_model", with_other)
    client.completions.create(**SHORT)
    (before,) = models()
    with client.completions.create(**LONG, stream=True) as long:
        next(iter(long))
        with pytest.raises(openai.RateLimitError, match="room for no more"):
            client.completions.create(**{**SHORT, "model": "other"})
    wait_for(lambda: client.completions.create(**SHORT), 20)
    client.completions.create(**{**SHORT, "model": "other"})
    (after,) = models()
    assert after != before
    assert str(other) in cmdline(after)


def test_a_model_that_does_not_load_says_why(client: OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = names.Model("broken", 0.0, "default", "default", tmp_path)
    monkeypatch.setattr("steep.server.openai.completions.find_model", lambda *_: broken)
    with pytest.raises(openai.BadRequestError, match=r"model: holds no weights\. Give the directory") as error:
        client.completions.create(**SHORT | {"model": "broken"}, stream=True)
    assert str(tmp_path) not in str(error.value)


def test_what_kept_a_model_from_loading_once_keeps_none_from_loading_later(house: Serving, client: OpenAI) -> None:
    wait_for(lambda: not models(), 20)
    log_file = house.service.settings.data / "logs" / "completions.log"
    log_file.unlink(missing_ok=True)
    log_file.mkdir()  # such as a full disk, it cannot be opened
    with pytest.raises(openai.InternalServerError):
        client.completions.create(**SHORT)
    log_file.rmdir()
    again = client.with_options(max_retries=1)  # the connection is closed after such an answer
    assert again.completions.create(**SHORT).choices[0].text


def test_one_that_is_not_waited_for_leaves_the_end_of_another_alone(
    client: OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = names.Model("other", 0.0, "default", "default", tmp_path)
    find = names.find_model
    monkeypatch.setattr(
        "steep.server.openai.completions.find_model",
        lambda here, caller, name: other if name == "other" else find(here, caller, name),
    )
    client.completions.create(**SHORT)
    (before,) = models()
    before.suspend()  # it does not end by itself
    try:
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=1).completions.create(**{**SHORT, "model": "other"})
        time.sleep(1)  # until it is known that nobody waits for that one
        client.completions.create(**SHORT)
        assert before not in models()
    finally:
        if before.is_running():
            before.kill()


def test_a_model_that_nobody_asks_for_is_let_go(client: OpenAI) -> None:
    client.completions.create(**SHORT)
    assert models()
    wait_for(lambda: not models(), 20)
