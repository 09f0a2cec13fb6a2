"""`steep corpus inspect`: the sums, the split, the drops with examples."""

from __future__ import annotations

import json

from steep.cli.accounting import print_accounting


def test_inspect_accounts_for_the_corpus_and_trains_nothing(steep, job, tmp_path):
    done = steep("corpus", "inspect", job, "--dir", "run", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["bytes_read"] == 45_000
    assert answer["split"][0] == {
        "part": "train", "name": "docs", "documents": 90, "text_bytes": 36_000, "tokens": 9000, "bytes_per_token": 4.0,
    }  # fmt: skip
    copies, short = answer["drop_examples"]  # most bytes first
    assert (copies["reason"], copies["documents"], copies["text_bytes"]) == ("exact copy", 1, 4000)
    assert (short["reason"], short["documents"], short["text_bytes"]) == ("too short", 5, 100)
    assert len(short["examples"]) == 3
    assert (tmp_path / "run" / "stages" / "prepare.json").exists()
    assert not (tmp_path / "run" / "stages" / "assess.json").exists()


def test_inspect_keeps_to_a_cache_and_tells_people(steep, job, tmp_path):
    done = steep("corpus", "inspect", job)
    assert done.returncode == 0, done.stderr
    for part in ("train", "9,000", "4.00", "45 kB", "too short", "docs/0.txt", "exact copy", "en", "98"):
        assert part in done.stdout, part
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "job.yaml", "text"]
    (place,) = (tmp_path / "cache" / "steep" / "inspect").iterdir()
    steep("corpus", "inspect", job, "--set", "training.learning_rate=1e-3", "--set", "name=other")
    assert list(place.parent.iterdir()) == [place]  # the same corpus: the same place
    steep("corpus", "inspect", job, "--set", "corpus.holdout=5%")
    assert len(list(place.parent.iterdir())) == 2


def test_names_are_whole_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    row = {"role": "corpus", "files": 60, "documents": 60, "bytes_read": 1_460_000, "bytes_kept": 1_460_000}
    row |= {"bytes_dropped": 0, "tokens": 565_462, "bytes_per_token": 2.59}
    print_accounting({"split": [], "drop_examples": [], "sources": {"handbook": row}})
    out = capsys.readouterr().out
    assert {"handbook", "documents", "565,462"} <= set(out.split())
    assert max(map(len, out.splitlines())) <= 80


def test_nothing_is_called_trained_before_it_is(capsys):
    sums = {"tokens": {"trained": 9000}, "sources": {"docs": {"tokens_trained": 9000}}}
    print_accounting({"split": [], "drop_examples": [], **sums})
    out = capsys.readouterr().out
    assert "to train on" in out
    assert "tokens to train on" in out
    assert "trained" not in out


def test_languages_are_said_to_be_those_of_a_sample(capsys):
    print_accounting({"split": [], "drop_examples": [], "languages": {"en": 146, "und": 2}, "sources": {}})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    start = lines.index(["Languages"])
    assert lines[start + 1 : start + 4] == [
        ["documents,", "of", "a", "sample", "of", "148"],
        ["en", "146"],
        ["unknown", "2"],
    ]


def test_a_bad_corpus_is_exit_code_2(steep, job):
    done = steep("corpus", "inspect", job, standin="invalid")
    assert done.returncode == 2
    assert "has no text" in done.stderr
