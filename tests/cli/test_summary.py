"""What a finished run shows."""

from __future__ import annotations

import io
import math

from rich.console import Console
from tests.cli.standin import results

from steep.artifacts.rundir import RunDirectory
from steep.cli.paths import steep_command
from steep.cli.summary import show


def shown(run: RunDirectory) -> str:
    stream = io.StringIO()
    show(run, Console(file=stream, width=120))
    return stream.getvalue()


def test_a_gain_that_was_not_measured_is_no_number(tmp_path):
    run = RunDirectory(tmp_path)
    run.results_file.write_text(results().model_dump_json())
    assert "Gain +0.500 bits per byte on your text; forgetting +0.030" in shown(run)
    unmeasured = [
        row.model_copy(update={"domain_bpb": math.nan, "gain": math.nan, "domain": {}}) for row in results().scores
    ]
    run.results_file.write_text(results().model_copy(update={"scores": tuple(unmeasured)}).model_dump_json())
    assert "Gain not measured; forgetting +0.030" in shown(run)
    assert "nan" not in shown(run)
    run.results_file.write_text(results().model_copy(update={"base": "from scratch"}).model_dump_json())
    assert "forgetting +" not in shown(run)


def test_the_next_command_can_be_typed_as_it_stands_there(tmp_path, monkeypatch):
    program = tmp_path / ".venv" / "bin" / "steep"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [".venv/bin/steep", "demo"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert steep_command() == ".venv/bin/steep"
    monkeypatch.setenv("PATH", str(program.parent))
    assert steep_command() == "steep"
    monkeypatch.setattr("sys.argv", ["/usr/lib/python3/__main__.py"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert steep_command() == "steep"
