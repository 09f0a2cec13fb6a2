"""Reading job files: what is accepted, and errors that name the field and the cure."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from steep.artifacts.rundir import RunDirectory
from steep.cli.jobfile import read_job
from steep.spec.errors import InvalidSpec
from steep.spec.job import CLEANING_PRESETS, Source
from steep.spec.load import is_remote, load_spec, parse_spec

SMALL = {"name": "peps", "base": "org/model", "corpus": {"sources": ["text"]}}

ISSUE = """
name: python-peps
tags: [docs]
base: ./models/tiny
corpus:
  sources:
    - {path: ./docs, include: ["**/*.rst"], weight: 1.0}
    - {path: s3://bucket/kb/*.jsonl.zst, text_field: body}
  cleaning: standard
  dedup: {exact: true, near: 0.8}
  holdout: 1%
replay: {source: self, share: 10%}
training:
  budget: 2 epochs
  sequence_tokens: 2048
  global_batch_tokens: 262144
  learning_rate: auto
  schedule: wsd
  method: full
checkpoints: {every: 10 min, keep_last: 2, keep_best: 1}
evaluation:
  general: [./general-text]
  tasks: [arc_easy, ./tasks/peps.yaml]
  prompts: ["A decorator is"]
  forgetting_budget: 0.02
seed: 17
"""


def changed(**parts):
    return {**SMALL, **parts}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refusal(values) -> str:
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(values)
    assert caught.value.exit_code == 2
    assert caught.value.cure
    return str(caught.value)


def test_the_whole_job_of_the_documentation(tmp_path):
    spec = load_spec(write(tmp_path / "job.yaml", ISSUE))
    assert spec.base.model == str(tmp_path / "models/tiny")
    assert [source.path for source in spec.corpus.sources] == [str(tmp_path / "docs"), "s3://bucket/kb/*.jsonl.zst"]
    assert spec.corpus.holdout == pytest.approx(0.01)
    assert spec.replay.source == "self"
    assert spec.replay.share == pytest.approx(0.1)
    assert spec.training.budget == (2.0, "epochs")
    assert spec.training.learning_rate is None
    assert spec.training.method.lora is None
    assert spec.checkpoints.every == (600.0, "seconds")
    assert spec.evaluation.tasks == ("arc_easy", str(tmp_path / "tasks/peps.yaml"))
    assert spec.evaluation.general[0].path == str(tmp_path / "general-text")


def test_toml_says_the_same(tmp_path):
    text = 'name = "peps"\nbase = "org/model"\n[corpus]\nsources = ["text"]\n[training]\nbudget = "2 epochs"\n'
    spec = load_spec(write(tmp_path / "job.toml", text))
    same = load_spec(write(tmp_path / "job.yaml", yaml.safe_dump(changed(training={"budget": "2 epochs"}))))
    assert spec == same


@pytest.mark.parametrize("text", [ISSUE, yaml.safe_dump(SMALL)])
def test_round_trip_through_a_run_directory(tmp_path, text):
    spec = load_spec(write(tmp_path / "job.yaml", text))
    run = RunDirectory(tmp_path / "elsewhere" / "run")
    run.path.mkdir(parents=True)
    run.write_spec(spec)
    assert run.spec() == spec


@pytest.mark.parametrize(
    ("values", "field", "suggestion"),
    [
        (changed(traning={}), "traning", "training"),
        (changed(training={"learning_rat": 1e-5}), "training.learning_rat", "learning_rate"),
        (changed(corpus={"sources": ["a"], "dedupe": {}}), "corpus.dedupe", "dedup"),
        (changed(corpus={"sources": [{"path": "a", "wieght": 2}]}), "corpus.sources.0.wieght", "weight"),
        (changed(training={"method": {"lora": {"rnak": 8}}}), "training.method.lora.rnak", "rank"),
        (changed(evaluation={"forgeting_budget": 0.1}), "evaluation.forgeting_budget", "forgetting_budget"),
        (changed(base={"from_scratch": {"arkitecture": "llama"}}), "base.from_scratch.arkitecture", "architecture"),
        (changed(replay={"shar": 0.1}), "replay.shar", "share"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(values, field, suggestion):
    told = refusal(values)
    assert f"{field}: there is no such key; did you mean {suggestion!r}?" in told


@pytest.mark.parametrize("key", ["Weights", "", "str", "function-x"])
def test_an_unknown_key_is_named_whatever_it_looks_like(key):
    job = {"name": "x", "base": "b", "corpus": {"sources": ["t"]}, key: {}}
    with pytest.raises(InvalidSpec, match="there is no such key") as caught:
        parse_spec(job)
    assert f"{key}: there is no such key" in str(caught.value)


def test_a_key_like_no_other_is_refused_without_a_suggestion():
    assert "did you mean" not in refusal(changed(zzz=1))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"base": "m", "corpus": {"sources": ["a"]}}, "name: is missing"),
        (changed(name="no spaces please"), "name: "),
        (changed(corpus={"sources": []}), "corpus.sources: "),
        (changed(corpus={"sources": ["a"], "holdout": "150%"}), "corpus.holdout: '150%' is not between 0% and 100%"),
        (changed(training={"budget": "2 fortnights"}), "training.budget: '2 fortnights' is not a budget"),
        (changed(training={"schedule": "cosin"}), "training.schedule: "),
        (changed(training={"method": "qlora"}), "training.method: 'qlora' is not a method; choose full or lora"),
        (changed(training={"learning_rate": -1}), "training.learning_rate: "),
        (changed(training={"sequence_tokens": 1}), "training.sequence_tokens: "),
        (changed(corpus={"sources": ["a"], "cleaning": "hard"}), "'hard' is not a cleaning preset"),
        (changed(base={"model": "m", "from_scratch": {}}), "give either a model (a path or a hub id) or from_scratch"),
        (changed(base={}), "give either a model"),
        (changed(seed=-1), "seed: "),
        (changed(corpus={"sources": [{"path": "a", "weight": 0}]}), "corpus.sources.0.weight: "),
    ],
)
def test_a_bad_value_is_refused_by_field(values, told):
    assert told in refusal(values)


def test_all_problems_are_told_at_once():
    told = refusal({"name": "x", "base": "m", "corpus": {"sources": ["a"], "holdout": 2}, "tranining": {}, "seed": "q"})
    assert all(field in told for field in ("corpus.holdout", "tranining", "seed"))


def test_a_problem_inside_a_union_is_told_once():
    told = refusal(changed(replay={"source": {"path": "a", "weight": -1}}))
    assert "replay.source.weight" in told
    assert "function-" not in told


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("job.yaml", "name: [unclosed", "is not well-formed"),
        ("job.toml", "name = ", "is not well-formed"),
        ("job.yaml", "just a sentence", "holds no job"),
        ("job.yaml", "", "holds no job"),
    ],
)
def test_a_file_that_is_no_job(tmp_path, name, text, told):
    with pytest.raises(InvalidSpec, match=told) as caught:
        load_spec(write(tmp_path / name, text))
    assert caught.value.where == str(tmp_path / name)


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(InvalidSpec, match="no such job file"):
        load_spec(tmp_path / "job.yaml")
    (tmp_path / "job.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(InvalidSpec, match="cannot be read"):
        load_spec(tmp_path / "job.yaml")
    with pytest.raises(InvalidSpec, match="cannot be read"):
        load_spec(tmp_path)


def test_overrides(tmp_path):
    job = write(tmp_path / "job.yaml", yaml.safe_dump(SMALL))
    spec = load_spec(
        job,
        overrides=[
            "training.learning_rate=1e-5",
            "seed=3",
            "corpus.holdout=5%",
            "name=other",
            "evaluation.prompts=[a, b]",
        ],
    )
    assert spec.training.learning_rate == 1e-5
    assert (spec.seed, spec.name, spec.evaluation.prompts) == (3, "other", ("a", "b"))
    assert spec.corpus.holdout == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.learning_rate", "does not set anything"),
        ("=3", "does not set anything"),
        ("name.first=3", "holds a plain value"),
        ("training.learning_rate=[1", "is no value"),
    ],
)
def test_an_override_that_sets_nothing(tmp_path, override, told):
    with pytest.raises(InvalidSpec, match=told):
        load_spec(write(tmp_path / "job.yaml", yaml.safe_dump(SMALL)), overrides=[override])


def test_shorthands():
    spec = parse_spec(changed(replay="none", training={"method": "lora"}))
    assert spec.replay.share == 0
    assert spec.training.method.lora is not None
    assert parse_spec(changed(replay="books/novels")).replay.source == Source(path="books/novels")
    assert parse_spec(changed(base={"model": "org/m", "trust_remote_code": True})).base.trust_remote_code


@pytest.mark.parametrize("name", list(CLEANING_PRESETS))
def test_cleaning_presets(name):
    assert parse_spec(changed(corpus={"sources": ["a"], "cleaning": name})).corpus.cleaning == CLEANING_PRESETS[name]


def test_remote_code_is_off_unless_asked_for():
    assert parse_spec(SMALL).base.trust_remote_code is False


def test_a_spec_cannot_be_changed():
    spec = parse_spec(SMALL)
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 3


def test_paths_are_those_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "model").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    values = changed(replay="novels", checkpoints={"store": "kept"}, base="org/model")
    spec = load_spec(write(tmp_path / "job.yaml", yaml.safe_dump(values)))
    assert spec.base.model == str(tmp_path / "org" / "model")  # it is there, so it is a directory and no hub id
    assert spec.replay.source.path == str(tmp_path / "novels")
    assert spec.checkpoints.store == str(tmp_path / "kept")
    assert is_remote("s3://bucket/x")
    assert not is_remote("C:/x")


def test_a_hub_id_stays_one(tmp_path):
    spec = load_spec(write(tmp_path / "job.yaml", yaml.safe_dump(changed(base="org/name@main"))))
    assert spec.base.model == "org/name@main"


@pytest.mark.parametrize(
    "override",
    [
        "training.betas=[0.9,1.5]",
        "evaluation.interpolate=[1.5]",
        "deadline=-5",
        "training.budget=1e400 steps",
        "training.budget=0 epochs",
        "checkpoints.every=0",
        "checkpoints.every=-5",
        "checkpoints.every=0 min",
        "evaluation.every=0",
        "evaluation.every=0M tokens",
        "deadline=0",
    ],
)
def test_a_number_that_would_fail_later_is_refused_at_once(tmp_path, override):
    with pytest.raises(InvalidSpec, match=override.partition("=")[0]):
        load_spec(write(tmp_path / "job.yaml", yaml.safe_dump(SMALL)), overrides=[override])


def test_a_byte_order_mark_is_no_part_of_a_job(tmp_path):
    text = 'name = "job"\nbase = "org/m"\ncorpus = {sources = ["/text"]}\n'
    (tmp_path / "job.toml").write_text(text, encoding="utf-8-sig")
    assert load_spec(tmp_path / "job.toml").name == "job"


def test_words_are_words_and_not_true_or_false(tmp_path):
    (tmp_path / "job.yaml").write_text(
        "name: words\nbase: org/x\ncorpus:\n  sources: [hf://org/x]\n  decontaminate: no\n  cleaning: {languages: [no, en]}\n"
        "training: {compile: off, activation_checkpointing: true}\n"
        "service:\n  alerts:\n    - {email: a@b, on: [failed]}\n"
    )
    spec = load_spec(tmp_path / "job.yaml", overrides=["evaluation.every=100 steps"])
    assert spec.corpus.cleaning.languages == ("no", "en")
    assert (spec.corpus.decontaminate, spec.training.compile, spec.training.activation_checkpointing) == (
        False,
        False,
        True,
    )
    assert [str(kind) for kind in spec.service.alerts[0].on] == ["failed"]
    RunDirectory(tmp_path / "run").write_spec(spec)
    assert RunDirectory(tmp_path / "run").spec() == spec


def test_a_path_that_goes_up_is_written_as_it_is_read(tmp_path):
    (tmp_path / "base").mkdir()
    job = tmp_path / "jobs" / "first" / "job.yaml"
    job.parent.mkdir(parents=True)
    text = {"base": "../../base", "corpus": {"sources": ["../text", "./a/../b"]}}
    spec = load_spec(write(job, yaml.safe_dump(SMALL | text)))
    assert spec.base.model == str(tmp_path / "base")
    inner = str(tmp_path / "jobs" / "first" / "a" / ".." / "b")  # `a` may be a link, so that nothing is cut out there
    assert [source.path for source in spec.corpus.sources] == [str(tmp_path / "jobs" / "text"), inner]


def test_a_list_is_not_called_empty_because_an_item_of_it_is_wrong():
    told = refusal(changed(corpus={"sources": [{"path": "./tickets.jsonl", "text_feild": "body"}]}))
    assert "did you mean 'text_field'?" in told
    assert "at least 1 item" not in told
    assert "at least 1 item" in refusal(changed(corpus={"sources": []}))


def test_what_was_set_is_not_looked_for_in_the_file(tmp_path):
    path = write(tmp_path / "job.yaml", yaml.safe_dump(SMALL))
    for read in (load_spec, read_job):  # `steep run` and `jobs submit` read by the second
        with pytest.raises(InvalidSpec) as refused:
            read(path, overrides=("training.budget=abc",))
        assert refused.value.where == f"{path} --set training.budget"


def test_a_name_that_is_none_is_said_in_words():
    with pytest.raises(InvalidSpec, match="letters, digits, dots, dashes and underscores") as refused:
        parse_spec({"name": "my job", "base": "org/model", "corpus": {"sources": ["text"]}})
    assert "'my job'" in str(refused.value)
    assert "^[" not in str(refused.value)
