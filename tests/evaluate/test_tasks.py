"""Tasks through lm-evaluation-harness, on a local YAML task over local data and a tiny model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.artifacts.hubs import HubCache, hub

from steep.evaluate import tasks as tasks_module
from steep.evaluate.tasks import evaluate_tasks, require_tasks, task_texts
from steep.spec.errors import InvalidInput
from steep.spec.extras import install_extra

__all__ = ["hub"]

pytest.importorskip("lm_eval", reason="needs the extra steep[tasks]")

EXAMPLES = [
    {"question": "Which keyword begins a function in Python?", "choices": ["def", "zzzzzzzzzzzz"], "answer": 0},
    {"question": "What does the word yield make of one?", "choices": ["qqqqqqqqqqqq", "a generator"], "answer": 1},
    {"question": "Short one?", "choices": ["xxxxxxxxxxxx", "yes"], "answer": 1},
]
YAML = r"""
task: {name}
dataset_path: {path}
{data}
output_type: multiple_choice
test_split: test
doc_to_text: "Question: {{{{question}}}}\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    tasks_module._load.cache_clear()


@pytest.fixture
def task_file(tmp_path: Path) -> str:
    """A task whose data file is named relative to the YAML file, in another directory than the current one."""
    (tmp_path / "tasks" / "data").mkdir(parents=True)
    (tmp_path / "tasks" / "data" / "q.jsonl").write_text("\n".join(map(json.dumps, EXAMPLES)))
    data = "dataset_kwargs:\n  data_files: {test: data/q.jsonl}"
    (tmp_path / "tasks" / "quiz.yaml").write_text(YAML.format(name="steep_quiz", path="json", data=data))
    return str(tmp_path / "tasks" / "quiz.yaml")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.trainers import BpeTrainer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

    out = str(tmp_path_factory.mktemp("tokenizer"))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=257, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )  # fmt: skip
    tokenizer.train_from_iterator(["text"], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(out)
    set_seed(1)
    config = LlamaConfig(
        vocab_size=257, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, attn_implementation="eager",
    )  # fmt: skip
    return LlamaForCausalLM(config), out


def test_a_local_task_is_scored_and_the_model_left_as_it_was(
    tiny: tuple[Any, str], task_file: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = tiny
    model.train()
    # an almost uniform model likes short answers: all three right answers are the short ones
    assert evaluate_tasks(model, tokenizer, [task_file]) == {"steep_quiz": {"acc": pytest.approx(1.0)}}
    assert model.training
    assert model.config._attn_implementation == "eager"
    assert capfd.readouterr().out == ""


def test_the_tokenizer_of_a_revision_in_the_hub(tiny: tuple[Any, str], task_file: str, hub: HubCache) -> None:
    model, tokenizer = tiny
    hub.put("org/name", Path(tokenizer), revision="v1")
    assert evaluate_tasks(model, "org/name@v1", [task_file], limit=1)["steep_quiz"]["acc"] == 1


def test_the_limit_bounds_the_examples(tiny: tuple[Any, str], task_file: str) -> None:
    swapped = [EXAMPLES[0], *({**example, "answer": 1 - example["answer"]} for example in EXAMPLES[1:])]
    (Path(task_file).parent / "data" / "q.jsonl").write_text("\n".join(map(json.dumps, swapped)))
    model, tokenizer = tiny
    assert evaluate_tasks(model, tokenizer, [task_file], limit=1)["steep_quiz"]["acc"] == 1
    assert evaluate_tasks(model, tokenizer, [task_file])["steep_quiz"]["acc"] == pytest.approx(1 / 3)


def test_no_tasks_need_no_harness(tiny: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert evaluate_tasks(*tiny, []) == {}
    assert list(task_texts([])) == []


def test_texts_to_decontaminate_against(task_file: str) -> None:
    assert list(task_texts([task_file])) == [EXAMPLES[0]["question"], EXAMPLES[1]["question"]]


def test_an_unknown_task_is_answered_with_a_near_name(
    tiny: tuple[Any, str], task_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks import TaskManager

    own = TaskManager(include_path=str(Path(task_file).parent), include_defaults=False)
    monkeypatch.setattr(tasks_module, "_manager", lambda *, include_defaults: own)
    with pytest.raises(InvalidInput, match="no task 'steep_quizz'") as raised:
        evaluate_tasks(*tiny, ["steep_quizz"])
    assert raised.value.cure == "Did you mean steep_quiz?"


def test_a_missing_file_is_named(tiny: tuple[Any, str]) -> None:
    with pytest.raises(InvalidInput, match="no such task file"):
        evaluate_tasks(*tiny, ["./absent.yaml"])


def test_data_that_is_not_here_is_not_fetched(tiny: tuple[Any, str], tmp_path: Path) -> None:
    (tmp_path / "far.yaml").write_text(YAML.format(name="steep_far", path="nobody/nothing", data=""))
    with pytest.raises(InvalidInput, match="not on this machine") as raised:
        evaluate_tasks(*tiny, [str(tmp_path / "far.yaml")])
    assert "HF_HUB_OFFLINE=0" in (raised.value.cure or "")


def test_a_broken_task_is_refused(tiny: tuple[Any, str], tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("task: steep_bad\ndataset_path: json\noutput_type: nonsense\n")
    with pytest.raises(InvalidInput):
        evaluate_tasks(*tiny, [str(tmp_path / "bad.yaml")])


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("test_split: test\n", "training_split: test\n", "must have valid or test docs"),
        ("test_split: test\n", "test_split: test\nunsafe_code: true\n", "runs code"),
    ],
)
def test_a_task_that_no_model_can_be_measured_on_is_refused_when_it_is_loaded(
    task_file: str, old: str, new: str, why: str
) -> None:
    file = Path(task_file)
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(InvalidInput, match=why):
        require_tasks([task_file])


def test_a_missing_extra_names_the_command(task_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks_module._manager.cache_clear()
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(InvalidInput, match="not installed") as raised:
        list(task_texts([task_file]))
    assert raised.value.cure == install_extra("tasks")
    tasks_module._manager.cache_clear()
