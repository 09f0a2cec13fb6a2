"""The commands on the pages about the service are ones that there are, with arguments and options that they take."""

from __future__ import annotations

import re
import shlex

import pytest

PAGES = ("service.md", "team.md")


def lines(text: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line for language, block in blocks if not language for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_parses(repository, page):
    from typer.main import get_command

    from steep.cli.main import app

    found = lines((repository / "docs" / "how-to" / page).read_text(encoding="utf-8"))
    assert len(found) > 8
    for line in found:
        program, *words = shlex.split(line)
        assert program == "steep", line
        command, context = get_command(app), None
        while hasattr(command, "commands"):
            name = words.pop(0)
            assert name in command.commands, line
            command = command.commands[name]
        context = command.make_context("steep", words)  # exits, and so fails, for what the command does not know
        assert context is not None


def test_the_example_that_they_name_is_there(repository):
    assert (repository / "examples" / "python-docs.yaml").exists()
