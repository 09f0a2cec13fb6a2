"""Single things that need a model: scoring any text with any model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.e2e.conftest import make_base

from steep.spec.errors import InvalidInput
from steep.worker.actions import score


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A model and two texts, one of them long."""
    make_base(tmp_path / "base", ["some text to learn a tokenizer from"])
    (tmp_path / "long.txt").write_text("\n\n".join(f"In paragraph {n} the same is told." * 9 for n in range(400)))
    (tmp_path / "short.txt").write_text("Something else, and little of it.")
    return tmp_path


def test_each_text_is_scored_up_to_the_limit(place: Path) -> None:
    model, long, short = (str(place / name) for name in ("base", "long.txt", "short.txt"))
    alone = score(model, [short], max_tokens=9000)
    both = score(model, [long, short], max_tokens=9000)
    first, second = both["texts"]
    assert (first["text"], second["text"]) == (long, short)
    assert 0 < first["tokens"] <= 9000 < score(model, [long], max_tokens=1 << 40)["tokens"]
    assert second["nats"] == pytest.approx(alone["nats"], rel=1e-5)
    for number in ("nats", "tokens", "text_bytes"):
        assert both[number] == first[number] + second[number]
    weighted = first["bpb"] * first["text_bytes"] + second["bpb"] * second["text_bytes"]
    assert both["bpb"] == pytest.approx(weighted / both["text_bytes"])


def test_a_text_that_holds_none_is_named(place: Path) -> None:
    (place / "empty.txt").write_text(" ")
    with pytest.raises(InvalidInput, match=r"empty\.txt: holds no text"):
        score(str(place / "base"), [str(place / "short.txt"), str(place / "empty.txt")], max_tokens=100)


def test_the_command_prints_a_line_for_each_text_and_one_for_all(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from steep.cli.main import main

    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as ended:
        main(["score", "base", "--text", "long.txt", "--text", "short.txt", "--max-tokens", "300"])
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["long.txt", "short.txt", "together"]


def test_it_is_said_where_much_less_is_scored_than_was_asked_for(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from steep.cli.main import main

    text = place / "text"
    text.mkdir()
    (text / "a.txt").write_text("Something else, and little of it.")
    monkeypatch.chdir(place)

    def scored() -> tuple[bool, str]:
        with pytest.raises(SystemExit) as ended:
            main(["score", "base", "--text", "text", "--max-tokens", "500", "--json"])
        assert not ended.value.code
        out, err = capsys.readouterr()
        return json.loads(out)["texts"][0]["stopped_early"], err

    assert scored() == (False, "")  # there is no more of it
    (text / "b.txt").write_text("The same is told again. " * 400)  # one piece, and larger than all that was asked for
    early, err = scored()
    assert early
    assert "warning: of text only" in err
    assert "--max-tokens" in err
