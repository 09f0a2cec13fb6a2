"""The arithmetic and the tables of `make bench`; nothing is measured here."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest


@pytest.fixture(scope="module", autouse=True)
def benchmarks(repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        yield


@pytest.fixture
def tables():
    return importlib.import_module("comparison.tables")


@pytest.fixture
def rows():
    return importlib.import_module("comparison.rows")


@pytest.fixture
def plan():
    return importlib.import_module("comparison.plan")


@pytest.fixture
def race(rows):
    """A row of one metric, compared in both ways."""
    speed = rows.Metric("speed", "pace", "km/h", more_is_better=True)
    seconds = rows.Metric("seconds", "time", "s")
    sides = (
        rows.Side("hare", "The hare", "hare", dict),
        rows.Side("tortoise", "The tortoise", "tortoise", dict, peer=True),
    )
    comparisons = (
        rows.Comparison("pace", speed, "hare", "tortoise", "times", 3),
        rows.Comparison("time", seconds, "hare", "tortoise", "times"),
        rows.Comparison("time", seconds, "hare", "tortoise", "share", 0.2),
    )
    return rows.Row("race", "A race", sides, (speed, seconds), comparisons)


@pytest.fixture
def measured(rows):
    def of(side, repeat, speed, seconds):
        return rows.Measurement("race", side, repeat, {"speed": speed, "seconds": seconds})

    return [
        of("hare", 0, 40.0, 1.0), of("tortoise", 0, 10.0, 4.0),
        of("hare", 1, 10.0, 4.0), of("tortoise", 1, 5.0, 8.0),
        of("hare", 2, 60.0, 2.0), of("tortoise", 2, 6.0, 20.0),
        of("hare", 3, 99.0, 9.0),
    ]  # fmt: skip


def test_a_ratio_is_of_neighbours_and_never_of_medians(tables, race, measured):
    pace, times, share = race.comparisons
    assert tables.ratios(pace, measured) == [4.0, 2.0, 10.0]
    assert tables.ratios(times, measured) == [4.0, 2.0, 10.0]
    assert tables.ratios(share, measured) == [0.25, 0.5, 0.1]


def test_a_goal_is_a_least_or_a_most(tables, race):
    pace, times, share = race.comparisons
    assert [tables.meets(pace, ratio) for ratio in (2.9, 3.0)] == [False, True]
    assert [tables.meets(share, ratio) for ratio in (0.21, 0.2)] == [False, True]
    assert tables.meets(times, 1.0) is None


def test_the_worst_difference_is_relative_and_leaves_the_beginning_out(tables):
    assert tables.worst_difference([9.0, 4.0, 2.02], [1.0, 4.0, 2.0], first=1) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="shorter"):
        tables.worst_difference([1.0, 2.0], [1.0], first=0)


def test_tables_show_medians_ranges_and_whether_the_goal_is_met(tables, race, measured):
    lines = tables.tables(race, measured).splitlines()
    assert "| The hare | pace, km/h | 50 | 10 to 99 | 4 |" in lines
    assert "| The tortoise | time, s | 8 | 4 to 20 | 3 |" in lines
    assert "| pace: The hare | The tortoise | 4.00x | 2.00x to 10.00x | at least 3x | yes |" in lines
    assert "| time: The hare | The tortoise | 0.25x | 0.10x to 0.50x | at most 0.2x | no |" in lines
    assert tables.tables(race, []) == "Not measured yet.\n"


def test_numbers_keep_three_digits_or_whole_thousands(tables):
    assert [tables.number(value) for value in (0, 0.012345, 3.14159, 123.4, 1234567.8)] == [
        "0", "0.0123", "3.14", "123", "1,234,568",
    ]  # fmt: skip


def test_only_what_stands_between_the_markers_is_replaced(tables):
    begin, end = tables.BEGIN.format("race"), tables.END.format("race")
    page = f"# Page\n\nBefore.\n\n{begin}\nold\n{end}\n\nAfter.\n"
    once = tables.put_between(page, "race", "new\n")
    assert once == f"# Page\n\nBefore.\n\n{begin}\n\nnew\n\n{end}\n\nAfter.\n"
    assert tables.put_between(once, "race", "new\n") == once
    added = tables.put_between("# Page\n", "race", "new")
    assert added.count(begin) == added.count(end) == 1
    with pytest.raises(ValueError, match="not a pair"):
        tables.put_between(f"# Page\n{begin}\n", "race", "new")


def test_standstill_and_drag_of_checkpoints():
    clock = importlib.import_module("comparison.sides.clock")
    steps = [1.0, 1.0, 1.0, 1.5, 1.0, 1.25, 1.25, 1.0]  # saved after 1, 3 and 5 steps
    found = clock.save_values([9.0, 0.2, 0.4], steps, [1, 3, 5])
    assert found == pytest.approx({"first_stall_seconds": 9.0, "stall_seconds": 0.3, "drag_seconds": 0.5})


def test_the_page_has_the_markers_of_every_row_and_no_others(tables, plan, repository):
    page = (repository / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    names = [row.name for row in plan.rows(plan.FULL)] + ["gpu"]
    for name in names:
        assert page.count(tables.BEGIN.format(name)) == page.count(tables.END.format(name)) == 1, name
    assert page.count(": begin -->") == len(names)


def test_every_goal_of_the_plan_compares_sides_that_there_are(plan):
    for row in (*plan.rows(plan.FULL), *plan.rows(plan.QUICK)):
        assert any(comparison.goal is not None for comparison in row.comparisons), row.name
        for comparison in row.comparisons:
            assert not row.side(comparison.ours).peer
            assert row.side(comparison.theirs).peer


def test_measurements_are_kept_and_read_again(rows, tmp_path):
    runner = importlib.import_module("comparison.runner")
    kept = [rows.Measurement("race", "hare", 0, {"speed": 1.5}, {"loss": [3.0, 2.5]}, {"notices": []})]
    runner.save(tmp_path / "below" / "kept.json", kept)
    assert runner.load(tmp_path / "below" / "kept.json") == kept
    assert runner.load(tmp_path / "none.json") == []
    assert json.loads((tmp_path / "below" / "kept.json").read_text())[0]["side"] == "hare"


def test_list_names_the_rows_and_measures_nothing(plan, repository):
    command = [sys.executable, "benchmarks/bench.py", "--list"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True, timeout=60)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [row.name for row in plan.rows(plan.FULL)]
    only = subprocess.run([*command, "--only", "memory"], cwd=repository, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in only.stdout.splitlines()] == ["memory-8m", "memory-135m"]


def test_rows_of_runs_that_are_not_here_stay_in_a_table_of_results(tmp_path, monkeypatch):
    results = importlib.import_module("results")
    monkeypatch.setattr(results, "RUNS", tmp_path)
    here, away, never = (
        results.Trial("group", name, name, tmp_path, "python_peps", "1M tokens") for name in ("here", "away", "never")
    )
    general = {"novels": 1.5}
    base = {"step": 0, "kind": "checkpoint", "tokens_seen": 0, "domain_bpb": 3.0, "gain": 0.0, "general": general}
    last = base | {"step": 8, "tokens_seen": 1_000_000, "domain_bpb": 2.0, "gain": 1.0, "general": {"novels": 1.6}}
    mix = last | {"kind": "interpolation", "alpha": 0.5}
    scores = [one | {"selected": one is last} for one in (base, last, mix)]
    scores[1]["selected"] = True
    for trial in (here, away):
        trial.directory.mkdir(parents=True)
        (trial.directory / "results.json").write_text(json.dumps({"scores": scores}))
        (trial.directory / "reports.jsonl").write_text('{"kind": "stage", "stage": "train", "seconds": 7}')
    whole = results.table([here, away, never])
    assert whole.count("\n") == 7
    assert "| away | 1.00M | 2.000 | +1.000 | +0.100 | yes | 7 |" in whole
    (away.directory / "results.json").unlink()
    assert results.table([here, away, never], whole) == whole
    assert "away" not in results.table([here, away, never])
