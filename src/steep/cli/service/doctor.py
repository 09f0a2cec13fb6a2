"""`steep doctor`: whether this installation and its server are well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from steep.cli.service.options import DataOption, JsonOption

if TYPE_CHECKING:
    from steep.cli.service.checks import Finding

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(data: Path | None = DataOption, json: bool = JsonOption) -> None:
    """Check the installation, this machine and the server, and say what to mend. Exit code 1 when something is a problem."""
    from dataclasses import asdict

    from steep.cli.output import print_json
    from steep.cli.paths import default_data
    from steep.cli.service.checks import findings

    found = []
    for one in findings((data or default_data()).absolute()):
        found.append(one)
        if not json:
            _print(one)
    if json:
        print_json([asdict(one) for one in found])
    if any(one.level == "problem" for one in found):
        raise typer.Exit(1)


def _print(one: Finding) -> None:
    from rich.text import Text

    from steep.cli.tables import answer_console

    line = Text.assemble((f"{one.level:<8}", STYLES[one.level]), (f" {one.about:<15}", "dim"), one.text)
    console = answer_console()
    console.print(line, soft_wrap=True)
    if one.cure:
        console.print(Text(f"{'':<25}{one.cure}", "cyan"), soft_wrap=True)
