"""Every command of the README is run, in the order in which it stands there, on its own job file."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from steep.cli import pythontext
from steep.spec.load import load_spec

STEEP = Path(sys.executable).with_name("steep")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    lines = [line.partition("#")[0].strip() for block in blocks(text, "sh") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def readme(repository) -> str:
    return (repository / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_one_page_with_one_short_job(readme):
    assert len(readme.splitlines()) < 100
    (job,) = blocks(readme, "yaml")
    assert len(job.splitlines()) <= 22


def test_make_commands_are_targets_that_end_in_what_the_readme_says(readme, repository):
    made = [command.split()[1:] for command in commands(readme) if command.startswith("make ")]
    assert made == [["demo"], ["test"]]
    for (target,), last in zip(made, (".venv/bin/steep demo", ".venv/bin/python -m pytest"), strict=True):
        alone = {
            key: value for key, value in os.environ.items() if not key.startswith("MAKE")
        }  # `make test` runs this too
        dry = subprocess.run(
            ["make", "-n", target], cwd=repository, env=alone, capture_output=True, text=True, check=True
        )
        assert last in dry.stdout.strip().splitlines()[-1]


def test_every_command_is_known_to_this_file(readme):
    verbs = [shlex.split(command)[:2] for command in commands(readme) if not command.startswith("make ")]
    assert all(program == ".venv/bin/steep" for program, _ in verbs)
    assert [verb for _, verb in verbs] == ["corpus", "spec", "run", "checkpoints", "score"]


def test_links_lead_somewhere(readme, repository):
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in link]
    assert len(links) > 5
    assert [link for link in links if not (repository / link).exists()] == []


def test_job_files_in_the_docs_are_valid(repository, tmp_path):
    found = 0
    for page in [repository / "README.md", *sorted((repository / "docs").rglob("*.md"))]:
        if "plans" in page.parts:
            continue
        for block in blocks(page.read_text(encoding="utf-8"), "yaml"):
            if not block.startswith("name:"):
                continue
            (tmp_path / "job.yaml").write_text(block, encoding="utf-8")
            load_spec(tmp_path / "job.yaml")
            found += 1
    assert found >= 3


def test_steep_commands_in_the_docs_parse(repository):
    from typer.main import get_command

    from steep.cli.main import app

    known = get_command(app).commands
    pages = [
        page for page in (repository / "docs").rglob("*.md") if "plans" not in page.parts and page.name != "cli.md"
    ]
    lines = [line for page in pages for block in blocks(page.read_text("utf-8"), "") for line in block.splitlines()]
    called = [shlex.split(line)[1:] for line in lines if line.startswith("steep ")]
    assert len(called) > 10
    for words in called:
        command = known[words[0]]
        rest = words[1:]
        if hasattr(command, "commands"):
            command, rest = command.commands[words[1]], words[2:]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, words


# ------------------------------------------------------------------------------------------ the README's own job, run


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, readme) -> Path:
    """What the README's job file names: a base, some text, some general text."""
    place = tmp_path_factory.mktemp("read me")
    (place / "job.yaml").write_text(blocks(readme, "yaml")[0], encoding="utf-8")
    pythontext.gather(place / "all")
    documents = sorted((place / "all" / "docstrings").glob("*.txt"))
    (place / "handbook").mkdir()
    for path in documents[:60]:
        path.rename(place / "handbook" / path.name)
    with open(place / "tickets.jsonl", "w", encoding="utf-8") as stream:
        for path in documents[60:90]:
            stream.write(json.dumps({"id": path.stem, "body": path.read_text(encoding="utf-8")}) + "\n")
    (place / "general-text").mkdir()
    for path in sorted((place / "all" / "reference").glob("*.txt"))[:10]:
        path.rename(place / "general-text" / path.name)
    make_base(place / "models" / "base", [path.read_text(encoding="utf-8") for path in (place / "handbook").iterdir()])
    return place


def make_base(directory: Path, texts: list[str]) -> None:
    """A tiny base with random weights and a tokenizer of its own."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=512, special_tokens=["<|endoftext|>"], show_progress=False)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, eos_token="<|endoftext|>")
    torch.manual_seed(17)
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    fast.save_pretrained(directory)


@pytest.mark.slow
def test_every_steep_command_runs(readme, workplace, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(workplace / "cache"))
    said = {}
    for command in commands(readme):
        words = shlex.split(command)
        if words[0] != ".venv/bin/steep":
            continue
        done = subprocess.run(
            [STEEP, *words[1:]], cwd=workplace, capture_output=True, text=True, check=False, timeout=240
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        said[words[1]] = done.stdout
    assert "docstrings" in said["corpus"] or "handbook" in said["corpus"]
    assert "learning_rate" in said["spec"]
    assert "Selected:" in said["run"]
    assert "step " in said["checkpoints"]
    assert "bits per byte" in said["score"]
    assert (workplace / "runs" / "handbook" / "export" / "config.json").exists()
