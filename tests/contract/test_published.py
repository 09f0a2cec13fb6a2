"""What others rely on does not change unseen: the reference pages hold the job spec's schema and every command.

When such a change is meant, `python scripts/reference.py` writes the pages again, and the diff shows the change.
"""

from __future__ import annotations

import importlib.util
import json
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def reference(repository) -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", repository / "scripts" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["job.md", "job.schema.json", "cli.md", "openapi.json"])
def test_the_reference_is_current(repository, reference, name):
    written = (repository / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == reference.pages()[name], "run `python scripts/reference.py` and look at the diff"


def test_every_key_of_the_spec_has_a_meaning(reference):
    lines = reference.pages()["job.md"].splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| `")]
    assert len(rows) > 50
    assert [row[0] for row in rows if len(row[-1].rstrip(" |")) < 8] == []


def test_every_command_and_option_says_what_it_does():
    from typer.main import get_command

    from steep.cli.main import app

    def walk(path, command):
        for name, child in getattr(command, "commands", {}).items():
            yield from walk([*path, name], child)
        if not hasattr(command, "commands"):
            yield path, command

    commands = {" ".join(path): command for path, command in walk([], get_command(app))}
    named = {"run", "demo", "score", "rollback", "branch", "corpus inspect", "spec schema", "spec explain"}
    verbs = "list show verify pin unpin evaluate compare export delete"
    assert named | {f"checkpoints {verb}" for verb in verbs.split()} <= set(commands)
    for path, command in commands.items():
        assert command.help, path
        silent = [p.name for p in command.params if p.name != "help" and not getattr(p, "help", None)]
        assert silent == [], path


def test_the_schema_accepts_what_the_loader_accepts_and_refuses_what_it_refuses(reference):
    from jsonschema import Draft202012Validator

    schema = json.loads(reference.pages()["job.schema.json"])
    Draft202012Validator.check_schema(schema)
    check = Draft202012Validator(schema)
    job = {
        "name": "peps",
        "base": "./models/tiny",
        "corpus": {
            "sources": ["docs", {"path": "s3://bucket/x", "text_field": "body"}],
            "holdout": "1%",
            "cleaning": "code",
        },
        "replay": {"source": "self", "share": "10%"},
        "training": {"budget": "2 epochs", "learning_rate": "auto", "method": "full", "sequence_tokens": "2k"},
        "checkpoints": {"every": "10 min"},
    }
    assert list(check.iter_errors(job)) == []
    assert list(check.iter_errors({**job, "traning": {}})) != []
    assert list(check.iter_errors({**job, "training": {"schedule": "cosin"}})) != []
