"""`steep spec explain`: each value with its origin and reason, from headers and sizes before anything has run."""

from __future__ import annotations

import json
import struct

import pytest

from steep.cli.estimate import BYTES_PER_TOKEN, estimate_facts
from steep.spec.load import load_spec

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 1000, "intermediate_size": 256,
    "max_position_embeddings": 1024,
}  # fmt: skip
JOB = """
name: job
base: base
corpus:
  sources: [{path: text, include: ["*.txt"]}]
  cleaning: code
training: {budget: 3 epochs}
"""


@pytest.fixture
def job(tmp_path):
    """A job whose base has a config and 100,000 parameters, and whose corpus has 4 MB."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(CONFIG))
    header = json.dumps(
        {"__metadata__": {}, "w": {"dtype": "F32", "shape": [1000, 100], "data_offsets": [0, 4]}}
    ).encode()
    (base / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    text = tmp_path / "text"
    text.mkdir()
    for i in range(4):
        (text / f"{i}.txt").write_text("word " * 200_000)
    (text / "left-out.md").write_text("word " * 200_000)
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


def fields(answer):
    return {field["field"]: field for field in answer["spec"]}


def test_facts_come_from_headers_and_sizes(job):
    facts, notes = estimate_facts(load_spec(job))
    assert facts.parameters == 100_000
    assert facts.context_tokens == 1024
    assert facts.train_tokens == pytest.approx(4_000_000 * 0.99 / BYTES_PER_TOKEN, rel=0.001)
    assert facts.memory_bytes > 0
    assert len(notes) == 3


def test_a_base_that_is_not_here_leaves_the_facts_open(job):
    facts, notes = estimate_facts(load_spec(job, overrides=["base=nobody/no-such-model"]))
    assert facts is None
    assert "not on this machine" in notes[0]


def test_a_missing_source_leaves_the_facts_open_and_says_so(job):
    facts, notes = estimate_facts(load_spec(job, overrides=["corpus.sources=[nowhere]"]))
    assert facts is None
    assert "nowhere" in notes[1]


def test_a_new_model_is_estimated_from_its_config(job):
    override = "base={from_scratch: {vocab_size: 1000, config: {hidden_size: 64, num_hidden_layers: 2}}}"
    facts, _ = estimate_facts(load_spec(job, overrides=[override]))
    assert facts.from_scratch
    assert facts.parameters == 2 * (4 * 64 * 64 + 3 * 64 * 256) + 2 * 1000 * 64


def test_explain_tells_given_default_and_derived_apart(call, job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call("spec", "explain", job, "--set", "seed=17", "--json")
    assert code == 0, err
    answer = json.loads(out)
    spec = fields(answer)
    assert spec["training.budget"]["origin"] == "given"
    assert spec["training.budget"]["value"] == "3 epochs"
    assert spec["seed"]["origin"] == "given"  # though it is the default
    assert spec["corpus.cleaning.min_characters"] | {"reason": ""} == {
        "field": "corpus.cleaning.min_characters", "value": 20, "origin": "given", "reason": "",
    }  # fmt: skip
    assert spec["training.learning_rate"]["origin"] == "derived"
    assert spec["training.schedule"]["origin"] == "default"
    assert spec["checkpoints.store"]["origin"] == "default"
    assert spec["corpus.sources.0.include"]["origin"] == "given"
    assert spec["corpus.sources.0.weight"]["origin"] == "default"
    numbers = {decision["field"]: decision for decision in answer["recipe"]}
    assert {"learning_rate", "total_steps", "replay_share", "microbatch_sequences"} <= set(numbers)
    assert numbers["sequence_tokens"]["value"] == "1024"
    assert all(decision["reason"] for decision in answer["recipe"])


def test_explain_for_people(call, job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("spec", "explain", job)
    assert code == 0
    assert "learning_rate" in out
    assert "estimates" in out


def test_explain_keeps_names_whole_on_a_narrow_terminal(call, job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    out = call("spec", "explain", job)[1]
    assert {"activation_checkpointing", "forgetting_budget", "split_documents"} <= set(out.split())
    assert max(map(len, out.splitlines())) <= 80


def test_a_shorthand_gives_what_it_says_and_no_more(call, job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = call("spec", "explain", job, "--set", "replay=none", "--set", "corpus.cleaning=standard", "--json")[1]
    origins = {field["field"]: field["origin"] for field in json.loads(out)["spec"]}
    assert origins["replay.share"] == "given"
    assert origins["replay.source"] == "default"
    assert origins["base.from_scratch"] == "default"
    assert origins["corpus.cleaning.normalize"] == "given"


def test_explain_uses_what_was_measured(call, job, tmp_path, monkeypatch):
    from steep.artifacts.rundir import RunDirectory
    from steep.planning.recipe import derive

    monkeypatch.chdir(tmp_path)
    spec = load_spec(job)
    facts, _ = estimate_facts(spec)
    run = RunDirectory("runs/job")
    run.path.mkdir(parents=True)
    run.write_spec(spec)
    measured = derive(spec, facts.model_copy(update={"train_tokens": 123_456}))
    (run.path / "recipe.json").write_text(measured.model_dump_json())
    answer = json.loads(call("spec", "explain", job, "--json")[1])
    assert "measured" in answer["basis"]
    assert answer["recipe"] == json.loads(measured.model_dump_json())["decisions"]
    changed = json.loads(call("spec", "explain", job, "--json", "--set", "seed=3")[1])
    assert "estimates" in changed["basis"]


def test_what_the_base_cannot_give_is_refused(call, job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call("spec", "explain", job, "--set", "training.sequence_tokens=4096")
    assert code == 2
    assert "1024" in err
