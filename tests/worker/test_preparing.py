"""The stages before training: what they make anew when the job changes, what they keep, and that they can be stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import make_base
from tests.worker.conftest import MakeContext, Recorder

from steep.corpus.document import Document
from steep.corpus.tokenize import CorpusTokenizer, write_token_dataset
from steep.planning.facts import Facts
from steep.planning.recipe import derive
from steep.spec.errors import InvalidInput, Stopped
from steep.spec.stages import Stage
from steep.train import pace
from steep.worker import assess, prepare, train
from steep.worker.context import Context
from steep.worker.pipeline import run_stage

FACTS = Facts(
    parameters=10_000, context_tokens=128, hidden_size=16, num_layers=1, vocab_size=300, train_tokens=100_000,
    memory_bytes=1 << 30,
)  # fmt: skip


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A folder with enough text to train a tokenizer on."""
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(8):
        lines = [f"Document {number} says in its line {line} that {line * line} is a square.\n" for line in range(60)]
        (folder / f"{number}.txt").write_text("".join(lines))
    return folder


def scratch(text: Path, vocab_size: int) -> dict[str, Any]:
    return {
        "base": {"from_scratch": {"vocab_size": vocab_size}}, "corpus": {"sources": [str(text)]}, "replay": "none",
    }  # fmt: skip


def entries(context: Context) -> int:
    return len(json.loads(Path(context.tokenizer, "tokenizer.json").read_bytes())["model"]["vocab"])


def test_a_tokenizer_is_trained_again_when_what_it_is_made_of_changes(
    make_context: MakeContext, heard: Recorder, text: Path
) -> None:
    first = make_context(**scratch(text, 280))
    for _ in range(2):
        prepare._make_tokenizer(first, 280)
    assert (entries(first), heard.codes()) == (280, ["tokenizer"])
    prepare._make_tokenizer(make_context(**scratch(text, 300)), 300)
    assert entries(first) == 300
    (text / "8.txt").write_text("wholly different words " * 100)
    prepare._make_tokenizer(make_context(**scratch(text, 300)), 300)
    assert heard.codes() == ["tokenizer"] * 3


def test_a_request_to_stop_is_heard_while_preparing(make_context: MakeContext, text: Path) -> None:
    stopped = make_context(should_stop=lambda: "SIGTERM was received", **scratch(text, 280))
    with pytest.raises(Stopped, match="while preparing"):
        prepare.work(stopped)
    assert not prepare.there(stopped)
    again = make_context(**scratch(text, 280))
    assert prepare.work(again)["train_tokens"] > 0
    assert prepare.there(again)


def test_a_task_that_changed_is_decontaminated_against_again(
    make_context: MakeContext, text: Path, tmp_path: Path
) -> None:
    task, data = tmp_path / "quiz.yaml", tmp_path / "quiz.jsonl"
    task.write_text("task: quiz\ndataset_kwargs: {data_files: quiz.jsonl}")
    data.write_text('{"question": "Is one a square?"}')

    def inputs(**corpus: Any) -> Any:
        asked = {**scratch(text, 280), "corpus": {"sources": [str(text)], **corpus}}
        return prepare.inputs(make_context(**asked, evaluation={"tasks": [str(task)]}))

    before, without = inputs(), inputs(decontaminate=False)
    assert inputs() == before
    data.write_text('{"question": "Is two a square?"}')
    assert inputs() != before
    assert inputs(decontaminate=False) == without


def test_a_long_prompt_is_decontaminated_against_and_a_short_one_changes_nothing(
    make_context: MakeContext, text: Path
) -> None:
    def inputs(*prompts: str) -> Any:
        return prepare.inputs(make_context(**scratch(text, 280), evaluation={"prompts": prompts}))

    assert inputs("Say so.") == inputs()
    assert inputs("a long prompt " * 10) != inputs()


@pytest.mark.parametrize("decontaminate", [True, False])
def test_a_task_that_is_not_there_is_told_of_before_anything_is_made(
    make_context: MakeContext, text: Path, decontaminate: bool
) -> None:
    pytest.importorskip("lm_eval", reason="needs the extra steep[tasks]")
    corpus = {"sources": [str(text)], "decontaminate": decontaminate}
    context = make_context(**{**scratch(text, 280), "corpus": corpus}, evaluation={"tasks": ["./absent.yaml"]})
    with pytest.raises(InvalidInput, match="no such task file"):
        prepare.work(context)
    assert not Path(context.tokenizer).exists()
    assert not context.run.dataset.exists()


def test_a_prepared_corpus_that_was_damaged_is_told_of_and_prepared_again(
    make_context: MakeContext, heard: Recorder, text: Path
) -> None:
    values = {**scratch(text, 280), "corpus": {"sources": [str(text)], "holdout": "30%"}}
    run_stage(make_context(**values), Stage.PREPARE, prepare)
    (shard,) = (make_context().run.dataset / "train").glob("*/tokens-00000.bin")
    content = bytearray(shard.read_bytes())
    sound = bytes(content)
    content[7] ^= 1
    shard.write_bytes(content)
    run_stage(make_context(**values), Stage.PREPARE, prepare)
    assert [code for code in heard.codes() if code not in ("tokenizer", "corpus")] == ["damaged_dataset", "stage_again"]
    assert shard.read_bytes() == sound
    told = len(heard.notices)
    run_stage(make_context(**values), Stage.PREPARE, prepare)
    assert (len(heard.notices), heard.stages[-1].event) == (told, "skipped")


def test_text_sampled_from_the_base_that_was_damaged_is_not_taken_for_sound(
    make_context: MakeContext, heard: Recorder
) -> None:
    context = make_context()
    documents = [Document(id=str(n), text=f"text {n}", source="self", origin=str(n)) for n in range(9)]
    base = Path(context.run.path.parent / "base")
    make_base(base, [document.text for document in documents])
    write_token_dataset(documents, CorpusTokenizer.load(str(base)), context.self_directory / "train", name="self")
    assert assess._samples_are_sound(context)
    shard = context.self_directory / "train" / "tokens-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-2] + b"xy")
    assert not assess.there(context)
    assert heard.codes() == ["damaged_dataset"]


def test_a_measured_speed_is_kept_for_what_it_was_measured_on(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a budget in time would have other steps after each change of the spec, and training would begin anew."""
    speeds = iter((100.0, 200.0, 300.0))
    monkeypatch.setattr(pace, "measure_pace", lambda setup: next(speeds))
    monkeypatch.setattr(train, "training_setup", lambda context, recipe: None)

    def measured(**training: Any) -> float:
        context = make_context(training={"budget": "1 h", **training}, checkpoints={"keep_last": len(training) + 1})
        return assess._pace(context, derive(context.spec, FACTS))

    assert measured() == 100.0
    assert measured(learning_rate=1e-4) == 100.0
    assert measured(method="lora") == 200.0
