"""Commands that need no run: errors, help, the spec, the demo's corpus."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from steep.cli import pythontext
from steep.cli.changes import changes, stages_again
from steep.cli.demo import DATA, make_job
from steep.spec.errors import InvalidSpec
from steep.spec.load import load_spec, parse_spec

SMALL = {"name": "job", "base": "org/model", "corpus": {"sources": ["text"]}}


def test_neither_the_engine_nor_the_server_is_imported():
    code = (
        "import sys, steep.cli.main as m, importlib, pkgutil, steep.cli\n"
        "[importlib.import_module(each.name) for each in pkgutil.walk_packages(steep.cli.__path__, 'steep.cli.')]\n"
        "heavy = {'torch', 'transformers', 'steep.worker', 'steep.server', 'fastapi', 'sqlalchemy', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_imports_little():
    code = "import sys, steep.cli.main as m; print(sorted({'pydantic', 'yaml', 'httpx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_and_help(call):
    from steep import __version__

    assert call("--version")[:2] == (0, f"steep {__version__}\n")
    assert "Exit codes" in call("-h")[1]


@pytest.mark.parametrize(
    "arguments", [("rnu",), ("run",), ("run", "job.yaml", "--untill", "train"), ("checkpoints", "lst")]
)
def test_a_wrong_call_is_exit_code_2(call, arguments):
    code, _, err = call(*arguments)
    assert code == 2
    assert "Traceback" not in err


def test_did_you_mean_a_command(call):
    assert "run" in call("rnu")[2]


def test_an_unexpected_error_shows_its_traceback_only_with_debug(call, monkeypatch, tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(SMALL))
    monkeypatch.setattr("steep.spec.load.load_spec", lambda *a, **k: 1 / 0)
    code, _, err = call("spec", "validate", job)
    assert code == 1
    assert "unexpected ZeroDivisionError" in err
    assert "Traceback" not in err
    assert "Traceback" in call("spec", "validate", job, "--debug")[2]


def test_validate(call, tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(SMALL))
    (tmp_path / "text").mkdir()
    assert call("spec", "validate", job)[0] == 0
    assert json.loads(call("spec", "validate", job, "--json", "--set", "seed=3")[1])["seed"] == 3
    assert call("spec", "validate", job, "--set", "seed=x")[0] == 2
    assert call("spec", "validate", tmp_path / "none.yaml")[0] == 2


def test_validate_names_every_path_that_is_not_there(call, tmp_path):
    job = tmp_path / "job.yaml"
    values = {
        "name": "job",
        "base": "./base",
        "corpus": {"sources": ["text", "s3://bucket/x", "text/*.md", "nowhere"]},
        "replay": "novels",
        "evaluation": {"general": ["general"], "tasks": ["arc_easy", "own.yaml"]},
    }
    job.write_text(json.dumps(values))
    (tmp_path / "text").mkdir()
    code, out, err = call("spec", "validate", job)
    assert (code, out) == (2, "")
    missing = {
        "base.model": "base", "corpus.sources.3": "nowhere", "replay.source": "novels",
        "evaluation.general.0": "general", "evaluation.tasks.1": "own.yaml",
    }  # fmt: skip
    told = [line.strip() for line in err.splitlines() if line.startswith("  ")]
    assert told == [f"{key}: {tmp_path / name}" for key, name in missing.items()]


def test_schema(call):
    schema = json.loads(call("spec", "schema")[1])
    assert schema["title"] == "Steep job"
    assert {"name", "base", "corpus"} <= set(schema["required"])


# ------------------------------------------------------------------------------------------------------------ changes


@pytest.mark.parametrize(
    ("part", "field", "first"),
    [
        ({"corpus": {"sources": ["text"], "holdout": "2%"}}, "corpus.holdout", "prepare"),
        ({"base": "org/other"}, "base.model", "prepare"),
        ({"training": {"learning_rate": 1e-4}}, "training.learning_rate", "assess"),
        ({"replay": {"share": "10%"}}, "replay.share", "assess"),
        ({"seed": 3}, "seed", "assess"),
        ({"evaluation": {"tasks": ["arc_easy"]}}, "evaluation.tasks", "prepare"),
        ({"evaluation": {"forgetting_budget": 0.5}}, "evaluation.forgetting_budget", "select"),
        ({"evaluation": {"prompts": ["a"]}}, "evaluation.prompts", "export"),
        ({"tags": ["a"]}, "tags", None),
        ({"deadline": "2 h"}, "deadline", None),
    ],
)
def test_changes_name_the_field_and_the_stages(part, field, first):
    changed = changes(parse_spec(SMALL), parse_spec(SMALL | part))
    assert [change.field for change in changed] == [field]
    again = stages_again(changed)
    assert (again[0] if again else None) == first


def test_no_changes():
    assert changes(parse_spec(SMALL), parse_spec(SMALL)) == []


# --------------------------------------------------------------------------------------------------------------- demo


def test_the_demo_corpus_is_whole_and_the_same_each_time(tmp_path):
    size = pythontext.gather(tmp_path / "a")
    assert size > pythontext.MIN_TOTAL_BYTES
    assert pythontext.gather(tmp_path / "a") == 0
    (tmp_path / ".b.gathering" / "reference").mkdir(parents=True)  # an interrupted gathering
    pythontext.gather(tmp_path / "b")
    files = {path.relative_to(tmp_path / "a"): path.read_bytes() for path in (tmp_path / "a").rglob("*.*")}
    again = {path.relative_to(tmp_path / "b"): path.read_bytes() for path in (tmp_path / "b").rglob("*.*")}
    assert files == again
    names = {kind: {path.stem for path in files if path.parts[0] == kind} for kind in ("docstrings", "sources")}
    assert len(names["docstrings"]) > 50
    assert len(names["sources"]) > 10
    assert not names["docstrings"] & names["sources"]


def test_docstrings_stand_under_the_name_of_what_they_document():
    doc = "Do something that takes a whole line to say."
    text = f'"""A module with a long enough docstring, all in all."""\ndef f(a, b=1):\n    """{doc}"""\n'
    ((name, documented),) = pythontext.docstrings([("pkg.mod", text)])
    assert name == "pkg.mod.txt"
    assert "module pkg.mod\n\nA module with" in documented
    assert "f(a, b=1)\n\nDo something" in documented


def test_a_module_that_does_not_parse_has_no_docstrings():
    assert list(pythontext.docstrings([("broken", "def f(:\n")])) == []


def test_the_demo_job_is_valid_and_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(pythontext, "gather", lambda out: 0)
    base = tmp_path / 'a "quoted" base'
    base.mkdir()
    job = make_job(tmp_path / "demo", str(base))
    written = job.stat().st_mtime_ns
    spec = load_spec(job)
    assert spec.base.model == str(base)
    assert [source.name for source in spec.corpus.sources] == ["reference", "docstrings", "sources"]
    assert all(source.path.startswith(str(tmp_path / "demo" / "corpus")) for source in spec.corpus.sources)
    make_job(tmp_path / "demo", str(base))
    assert job.stat().st_mtime_ns == written
    assert (DATA / "demo.yaml").exists()


def test_what_is_set_is_in_the_demos_job_file_and_an_edited_one_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(pythontext, "gather", lambda out: 0)
    place = tmp_path / "demo"
    with pytest.raises(InvalidSpec, match="did you mean 'budget'"):
        make_job(place, str(tmp_path), ["training.bugdet=1M tokens"])
    assert not (place / "job.yaml").exists()
    job = make_job(place, str(tmp_path), ["training.budget=1M tokens", "seed=3"])
    spec = load_spec(job)
    assert (spec.training.budget, spec.seed, spec.training.sequence_tokens) == ((1_000_000.0, "tokens"), 3, 512)
    edited = job.read_text().replace("seed: 3", "seed: 4")
    job.write_text(edited)
    make_job(place, str(tmp_path), ["seed=5"])
    assert job.read_text() == edited


def test_a_demo_without_its_base_says_so(call, tmp_path):
    code, _, err = call("demo", "--dir", tmp_path / "demo", "--base", tmp_path / "none")
    assert code == 2
    assert "there is no model" in err
