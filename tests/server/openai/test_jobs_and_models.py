"""OpenAI's own client from a file to text: upload, train, watch, and complete with the export and with a checkpoint."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import OpenAI
from tests.server.openai.clients import openai_client
from tests.server.openai.conftest import STEPS
from tests.server.serving import ServerProcess, wait_for

pytestmark = pytest.mark.slow
Order = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, place: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("openai") / "data", place)
    server.start()
    yield server
    server.end()


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[OpenAI]:
    with server.client() as steep:
        key = steep.keys.create("somebody's", role="member").secret
    with openai_client(server.address, key) as client:
        yield client


@pytest.fixture(scope="module")
def text(place: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted((place / "text").glob("*.txt")))


@pytest.fixture(scope="module")
def job(client: OpenAI, order: Order, text: bytes, little_base: Path) -> Any:
    """A job that has succeeded."""
    lines = "".join(json.dumps({"text": part}) + "\n" for part in text.decode().split("\n\n") if part)
    file = client.files.create(file=("kettles.jsonl", lines.encode()), purpose="fine-tune")
    general = client.files.create(
        file=("general.txt", b"Rain falls on the hills, and rivers run down to the sea. " * 40), purpose="fine-tune"
    )
    others = {"suffix": "kettles", "seed": 5, "metadata": {"team": "tea"}, "model": str(little_base)}
    asked = order(file.id, validation_file=general.id, **others)
    job = client.fine_tuning.jobs.create(**asked)
    assert (job.status, job.fine_tuned_model, job.model) == ("queued", None, str(little_base))
    assert (job.training_file, job.validation_file, job.seed, job.metadata) == (file.id, general.id, 5, {"team": "tea"})
    wait_for(lambda: client.fine_tuning.jobs.retrieve(job.id).finished_at)
    return client.fine_tuning.jobs.retrieve(job.id)


def test_a_job_runs_to_a_model(client: OpenAI, job: Any) -> None:
    assert job.status == "succeeded", (job.status_details, job.error)
    assert job.fine_tuned_model == f"ft:{job.id}"
    assert job.trained_tokens == STEPS * 256
    assert job.error is None
    assert job.method.type == "continued_pretraining"
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))  # the client asks for page after page
    assert [event.data["kind"] for event in events][::-1][:3] == ["created", "queued", "provisioned"]
    assert events[0].data["kind"] == "succeeded"
    assert len({event.id for event in events}) == len(events)
    measured = [event for event in events if event.type == "metrics"]
    assert measured
    assert all(event.data["kind"] in ("progress", "evaluated") for event in measured)
    saved = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=1))
    assert [one.step_number for one in saved] == sorted((one.step_number for one in saved), reverse=True)
    assert saved[0].step_number == STEPS
    assert saved[0].metrics.gain is not None  # type: ignore[attr-defined]
    assert saved[0].fine_tuned_model_checkpoint == f"ft:{job.id}:step-{STEPS}"
    names = [model.id for model in client.models.list()]
    assert {"tiny-base", job.fine_tuned_model, *(one.fine_tuned_model_checkpoint for one in saved)} == set(names)
    for name in names:
        assert client.models.retrieve(name).id == name


def test_greedy_text_of_the_export_is_what_transformers_generates(
    client: OpenAI, server: ServerProcess, job: Any
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = server.data / "runs" / job.id / "export"
    tokenizer, model = (
        AutoTokenizer.from_pretrained(directory),
        AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32),
    )
    prompts = ["Kettle 7 holds", "Tea number"]
    answer = client.completions.create(model=job.fine_tuned_model, prompt=prompts, max_tokens=20, temperature=0)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage is not None
    for prompt, choice in zip(prompts, answer.choices, strict=True):
        ids = [tokenizer.eos_token_id, *tokenizer(prompt, add_special_tokens=False).input_ids]
        full = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=20, pad_token_id=0)[0]
        assert prompt + choice.text == tokenizer.decode(full, skip_special_tokens=True)
        same = client.completions.create(model=job.fine_tuned_model, prompt=ids, max_tokens=20, temperature=0)
        assert same.choices[0].text == choice.text
    streamed = ["", ""]
    finishes: list[Any] = [None, None]
    usage = None
    for part in client.completions.create(
        model=job.fine_tuned_model, prompt=prompts, max_tokens=20, temperature=0, stream=True,
        stream_options={"include_usage": True},
    ):  # fmt: skip
        usage = part.usage or usage
        for piece in part.choices:
            streamed[piece.index] += piece.text
            finishes[piece.index] = piece.finish_reason or finishes[piece.index]
    assert streamed == [choice.text for choice in answer.choices]
    assert finishes == [choice.finish_reason for choice in answer.choices]
    assert usage == answer.usage


def test_a_checkpoint_completes_too_and_is_another_model(client: OpenAI, job: Any) -> None:
    asked: dict[str, Any] = {"prompt": "Kettle 7 holds", "max_tokens": 0, "echo": True, "logprobs": 1}
    scores = {}
    for name in (f"ft:{job.id}:step-{STEPS // 3 * 2}", f"ft:{job.id}"):
        choice = client.completions.create(model=name, **asked).choices[0]
        assert choice.text == "Kettle 7 holds"
        assert choice.logprobs is not None
        assert choice.logprobs.tokens is not None
        assert "".join(choice.logprobs.tokens) == choice.text
        assert choice.logprobs.text_offset is not None
        assert choice.logprobs.text_offset[0] == 0
        scores[name] = sum(choice.logprobs.token_logprobs or [])
    middle, end = scores.values()
    assert middle < end < 0  # what was learned is likelier


def test_a_job_is_paused_goes_on_and_is_cancelled(
    client: OpenAI, server: ServerProcess, order: Order, text: bytes, little_base: Path
) -> None:
    file = client.files.create(file=("kettles.txt", text), purpose="fine-tune")
    asked = order(file.id, model=str(little_base))
    asked["method"]["continued_pretraining"]["budget"] = "3000 steps"
    asked["method"]["continued_pretraining"]["checkpoints"]["every"] = "20 steps"
    job = client.fine_tuning.jobs.create(**asked)
    with server.client() as steep:
        wait_for(lambda: steep.jobs.detail(job.id).progress.step > 0)
        assert client.fine_tuning.jobs.retrieve(job.id).status == "running"
        client.fine_tuning.jobs.pause(job.id)
        wait_for(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "paused")
        step = client.fine_tuning.jobs.checkpoints.list(job.id).data[0].step_number
        named = f"ft:{job.id}:step-{step}"  # of a job that has not ended
        assert client.completions.create(model=named, prompt="Kettle", max_tokens=3).usage
        client.fine_tuning.jobs.resume(job.id)
        wait_for(lambda: steep.jobs.detail(job.id).progress.step > step)
        client.fine_tuning.jobs.cancel(job.id)
        wait_for(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "cancelled")
    assert client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model is None


def test_models_end_with_a_server_that_is_killed(client: OpenAI, server: ServerProcess, job: Any) -> None:
    """The last one here: there is no server after it."""
    assert server.process is not None
    with client.completions.create(model=job.fine_tuned_model, prompt="Kettle", max_tokens=100, stream=True) as text:
        next(iter(text))
        children = psutil.Process(server.process.pid).children()
        held = [one for one in children if "steep.worker.completions" in one.cmdline()]
        assert held
        server.end(signal.SIGKILL)
    wait_for(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in held), 20)
