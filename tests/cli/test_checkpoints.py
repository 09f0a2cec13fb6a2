"""`steep checkpoints`, `rollback`, `branch`: on a run with real manifests and small files."""

from __future__ import annotations

import json

import pytest
from rich.console import Console
from tests.cli.standin import results

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.rundir import RunDirectory
from steep.cli.summary import show
from steep.spec.load import parse_spec
from steep.spec.stages import Stage

SPEC = parse_spec({"name": "trunk", "base": "org/model", "corpus": {"sources": ["/text"]}})


@pytest.fixture
def run(tmp_path):
    """A run with checkpoints of steps 10, 20 and 30, of which 20 was measured."""
    run = RunDirectory(tmp_path / "trunk")
    run.path.mkdir()
    run.write_spec(SPEC)
    catalog = CheckpointCatalog(run.checkpoints)
    for step in (10, 20, 30):
        (catalog.stage(step) / "weights.bin").write_bytes(bytes([step]) * 1000)
        catalog.commit(
            step, tokens_seen=step * 8192, cursor=step * 16, spec_fingerprint="s", order_fingerprint="o",
            model_fingerprint="m",
        )  # fmt: skip
    run.results_file.write_text(results().model_dump_json())
    run.complete(Stage.SELECT, "inputs", {})
    return run


def steps(call, run):
    code, out, _ = call("checkpoints", "list", run.path, "--json")
    assert code == 0
    return {(row["line"], row["step"]) for row in json.loads(out)}


def test_list(call, run):
    code, out, _ = call("checkpoints", "list", run.path, "--json")
    rows = json.loads(out)
    assert (code, [row["step"] for row in rows]) == (0, [10, 20, 30])
    assert rows[1]["gain"] == 0.5
    assert rows[1]["selected"] is True
    assert rows[0]["gain"] is None
    assert rows[0]["size_bytes"] == 1000
    _, text, _ = call("checkpoints", "list", run.path)
    assert "+0.500" in text
    assert "selected" in text
    assert "Selected: step 20, gain +0.500" in text  # a mix may be selected, which is no row


def test_a_branch_shows_where_it_begins(call, run):
    assert call("branch", run.path, "--from", 20, "--name", "slower")[0] == 0
    (line,) = [line for line in call("checkpoints", "list", run.path)[1].splitlines() if "branch slower" in line]
    assert "step 20" in line
    rows = json.loads(call("checkpoints", "list", run.path, "--json")[1])
    assert [(row["step"], len(row["branches"])) for row in rows] == [(10, 0), (20, 1), (30, 0)]


def test_pins_answer_programs_too(call, run):
    assert json.loads(call("checkpoints", "pin", run.path, 10, "--json")[1]) == {"step": 10, "pinned": True}
    assert json.loads(call("checkpoints", "unpin", run.path, 10, "--json")[1]) == {"step": 10, "pinned": False}


def test_an_export_over_a_file_is_refused(call, run, tmp_path):
    (tmp_path / "model").write_text("mine")
    code, _, err = call("checkpoints", "export", run.path, 20, "--out", tmp_path / "model")
    assert code == 2
    assert "exists already" in err
    assert (tmp_path / "model").read_text() == "mine"


def test_an_export_below_a_file_is_refused_before_the_work(call, run, tmp_path, monkeypatch):
    monkeypatch.setattr("steep.cli.launch.act", lambda *given: pytest.fail("it was begun"))
    (tmp_path / "file").write_text("mine")
    code, _, err = call("checkpoints", "export", run.path, 20, "--out", tmp_path / "file" / "model")
    assert code == 2
    assert f"cannot be used as a directory ({tmp_path / 'file'} is a file)" in err


@pytest.mark.parametrize("general", [{"novels": 1.2}, {}])
def test_a_summary_speaks_of_forgetting_only_where_it_was_measured(run, capsys, general):
    there = results()
    scores = tuple(score.model_copy(update={"general": general}) for score in there.scores)
    run.results_file.write_text(there.model_copy(update={"scores": scores}).model_dump_json())
    show(run, Console(width=160))
    out = capsys.readouterr().out
    assert "Gain +0.500" in out
    assert ("on the worst general text" in out) is bool(general)


def test_show(call, run):
    code, out, _ = call("checkpoints", "show", run.path, 20, "--json")
    facts = json.loads(out)
    assert (code, facts["cursor"], facts["pinned"]) == (0, 320, False)
    assert "weights.bin" in facts["files"]
    assert "weights.bin" in call("checkpoints", "show", run.path, 20)[1]


def test_a_step_that_is_not_there_is_named_with_those_that_are(call, run):
    code, _, err = call("checkpoints", "show", run.path, 15)
    assert code == 2
    assert "there is no checkpoint of step 15" in err
    assert "10, 20, 30" in err


def test_verify_names_the_damaged_file(call, run):
    assert call("checkpoints", "verify", run.path)[0] == 0
    weights = CheckpointCatalog(run.checkpoints).path(20) / "weights.bin"
    weights.write_bytes(b"\0" * 1000)
    code, out, _ = call("checkpoints", "verify", run.path)
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == "step 10: valid"
    assert "weights.bin" in lines[1]
    assert "hash" in lines[1]
    assert json.loads(call("checkpoints", "verify", run.path, 20, "--json")[1])[0]["valid"] is False


def test_a_pinned_checkpoint_is_not_deleted(call, run):
    assert call("checkpoints", "pin", run.path, 10)[0] == 0
    code, _, err = call("checkpoints", "delete", run.path, 10)
    assert code == 2
    assert "pinned" in err
    assert call("checkpoints", "unpin", run.path, 10)[0] == 0
    code, out, _ = call("checkpoints", "delete", run.path, 10, 30, "--json")
    freed = json.loads(out)
    assert code == 0
    assert [row["step"] for row in freed] == [10, 30]
    assert all(row["freed_bytes"] >= 1000 for row in freed)
    assert steps(call, run) == {("main", 20)}


def test_nothing_is_deleted_when_one_of_several_is_not_there(call, run):
    assert call("checkpoints", "delete", run.path, 10, 15)[0] == 2
    assert {step for _, step in steps(call, run)} == {10, 20, 30}


def test_nothing_is_deleted_when_one_of_several_is_pinned(call, run):
    call("checkpoints", "pin", run.path, 30)
    assert call("checkpoints", "delete", run.path, 10, 30)[0] == 2
    assert {step for _, step in steps(call, run)} == {10, 20, 30}


def test_compare(call, run):
    code, out, _ = call("checkpoints", "compare", run.path, "--json")
    assert (code, [row["step"] for row in json.loads(out)]) == (0, [0, 20])
    text = call("checkpoints", "compare", run.path, 20)[1]
    assert "novels" in text
    assert "0.270" in text  # the task
    code, _, err = call("checkpoints", "compare", run.path, 30)
    assert code == 2
    assert "step 30 was not measured" in err


def test_rollback_sets_aside_and_branch_goes_on(call, run, tmp_path):
    code, out, _ = call("rollback", run.path, "--to", 10)
    assert code == 0
    assert "20, 30" in out
    (line,) = {line for line, _ in steps(call, run)} - {"main"}
    assert str(run.checkpoints / line) in out.replace("\n", "")
    lines = {line for line, _ in steps(call, run)}
    assert len(lines) == 2
    arguments = ("--from", 10, "--set", "training.learning_rate=1e-5", "--name", "slower", "--json")
    code, out, err = call("branch", run.path, *arguments)
    assert code == 0, err
    branch = RunDirectory(json.loads(out)["run"])
    assert branch.path == tmp_path / "slower"
    assert branch.spec().training.learning_rate == 1e-5
    assert branch.spec().name == "slower"
    assert CheckpointCatalog(branch.checkpoints).verify(10).tokens_seen == 81920
    assert call("branch", run.path, *arguments)[0] == 2  # it is there already


def test_what_is_pinned_in_a_line_that_was_set_aside_can_be_let_go(call, run):
    call("checkpoints", "pin", run.path, 30)
    _, out, _ = call("rollback", run.path, "--to", 20)
    assert "--only-set-aside` frees their space" in out
    prune = ("checkpoints", "prune", run.path, "--only-set-aside")
    assert call(*prune)[1] == "Checkpoints deleted: none; 0 B freed.\n"
    assert call("checkpoints", "unpin", run.path, 30)[0] == 0
    assert call(*prune)[1].startswith("Checkpoints deleted: 30 (set aside); ")
    assert steps(call, run) == {("main", 10), ("main", 20)}


def test_prune_lets_go_of_what_was_set_aside_and_of_what_need_not_be_kept(call, run):
    assert call("rollback", run.path, "--to", 20)[0] == 0
    code, out, _ = call("checkpoints", "prune", run.path, "--dry-run")
    assert (code, out.startswith("Checkpoints would go: 10, 30 (set aside); ")) == (0, True)
    assert len(steps(call, run)) == 3
    code, out, _ = call("checkpoints", "prune", run.path, "--json")
    answer = json.loads(out)
    assert (code, answer["steps"], answer["aside_steps"]) == (0, [10], [30])
    assert answer["freed_bytes"] >= 2000
    assert steps(call, run) == {("main", 20)}
    assert call("checkpoints", "prune", run.path)[1] == "Checkpoints deleted: none; 0 B freed.\n"


def test_watching_what_nobody_works_on_speaks_of_no_killing(call, run):
    assert call("rollback", run.path, "--to", 10)[0] == 0
    code, _, err = call("watch", run.path)
    assert code == 3
    assert "nobody works on it" in err
    assert "killed" not in err


def test_a_branch_keeps_its_weights(call, run):
    code, _, err = call("branch", run.path, "--from", 10, "--set", "base=other/model", "--name", "x")
    assert code == 2
    assert "base" in err
