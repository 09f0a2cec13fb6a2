"""Advice and disk: each warning rests on a number, and a sound job gets none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steep.planning.advice import Advice, CorpusShape, advise, describe_texts, is_instruct
from steep.planning.disk import Held, check_disk, estimate_disk
from steep.planning.facts import Facts
from steep.planning.recipe import derive
from steep.spec.errors import InvalidInput
from steep.spec.job import Checkpoints, JobSpec

SOUND: dict[str, Any] = {
    "parameters": 1_000_000_000, "context_tokens": 2048, "hidden_size": 2048, "num_layers": 24, "vocab_size": 50_000,
    "train_tokens": 500_000_000, "train_bytes": 2_000_000_000, "memory_bytes": 10**12, "domain_bpb": 1.1, "general_bpb": 0.8,
}  # fmt: skip


def codes(
    *, training: dict[str, Any] | None = None, replay: Any = "self", given: dict[str, Any] | None = None, **changes: Any
) -> set[str]:
    spec = JobSpec.model_validate(
        {"name": "job", "base": "model", "corpus": {"sources": ["text"]}, "replay": replay, "training": training or {}}
    )
    facts = Facts(**(SOUND | changes))
    found = advise(facts, derive(spec, facts), **(given or {}))
    assert all(isinstance(each, Advice) and len(each.message) > 30 for each in found)
    return {each.code for each in found}


def test_a_sound_job_is_left_alone() -> None:
    assert codes() == set()


@pytest.mark.parametrize(
    ("code", "case"),
    [
        ("too_little_text", {"train_tokens": 20_000, "train_bytes": 80_000}),
        ("little_text", {"train_tokens": 2_000_000, "train_bytes": 8_000_000}),
        ("poor_tokenizer", {"train_bytes": 600_000_000}),
        ("domain_known", {"domain_bpb": 0.7}),
        ("many_epochs", {"training": {"budget": "6 epochs"}}),
        ("no_replay", {"replay": "none"}),
        ("high_rate", {"training": {"learning_rate": 3e-3}, "given": {"auto_rate": 1e-4}}),
        ("pace_unknown", {"training": {"budget": "2 h"}}),
        ("instruct_base", {"given": {"instruct": True}}),
        ("instruction_data", {"given": {"shape": CorpusShape(instruction_share=0.9)}}),
    ],
)
def test_each_warning_has_its_cause(code: str, case: dict[str, Any]) -> None:
    assert codes(**case) == {code}


def test_four_epochs_are_not_too_many() -> None:
    assert codes(training={"budget": "4 epochs"}) == set()


@pytest.mark.parametrize(
    ("parameters", "train_tokens", "little"),
    [
        (5_000_000, 2_000_000, False),  # measured: it learns well
        (5_000_000, 400_000, True),
        (1_000_000_000, 99_000_000, True),
        (1_000_000_000, 101_000_000, False),
        (7_000_000_000, 300_000_000, True),
        (70_000_000_000, 1_100_000_000, False),
    ],
)
def test_how_much_text_is_little_depends_on_the_size_of_the_model(
    parameters: int, train_tokens: int, little: bool
) -> None:
    case = {
        "parameters": parameters,
        "train_tokens": train_tokens,
        "train_bytes": 4 * train_tokens,
        "memory_bytes": 10**13,
    }
    assert ("little_text" in codes(**case)) == little


def test_a_new_model_needs_more_and_is_told_of_no_adapters() -> None:
    facts = Facts(**{**SOUND, "parameters": 5_000_000, "train_tokens": 2_000_000, "from_scratch": True})
    spec = JobSpec.model_validate({"name": "job", "base": "model", "corpus": {"sources": ["text"]}})
    (told,) = [each.message for each in advise(facts, derive(spec, facts)) if each.code == "little_text"]
    assert "5M" in told
    assert "lora" not in told


def test_a_new_model_is_not_told_of_its_base() -> None:
    assert codes(from_scratch=True, parameters=10**8, domain_bpb=0.1, train_bytes=600_000_000) == set()


def test_instruct_bases_are_known_by_template_or_name(tmp_path: Path) -> None:
    plain, template, setting = tmp_path / "plain", tmp_path / "template", tmp_path / "setting"
    for directory in (plain, template, setting):
        directory.mkdir()
    (plain / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    (template / "chat_template.jinja").write_text("{{ messages }}")
    (setting / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert not is_instruct("/models/chat/plain-1B", plain)
    assert is_instruct("org/Plain-1B", template)
    assert is_instruct("org/Plain-1B", setting)
    assert is_instruct("org/Thing-1B-Instruct", plain)
    assert is_instruct("google/gemma-2b-it", plain)


def test_pairs_are_known_by_marks() -> None:
    chats = ["<|im_start|>user\nhello", "### Instruction: add\n### Response: 2"]
    assert describe_texts(chats).instruction_share == 1
    assert describe_texts([*chats, "A chapter.", "Another."]).instruction_share == 0.5
    assert describe_texts([]).instruction_share == 0


def test_disk_counts_checkpoints_and_export() -> None:
    facts = Facts(**SOUND)
    spec = JobSpec.model_validate({"name": "job", "base": "model", "corpus": {"sources": ["text"]}})
    needed = estimate_disk(facts, derive(spec, facts), Checkpoints(keep_last=2, keep_best=1))
    assert needed.checkpoint == 12 * 10**9
    assert needed.total == pytest.approx(1.1 * (5 * 12e9 + 4e9))
    check_disk(needed, needed.total, "run")
    with pytest.raises(InvalidInput, match=r"12 GB.*are free"):
        check_disk(needed, needed.total - 1, "run")


def test_what_a_run_holds_already_need_not_be_free_again() -> None:
    facts = Facts(**SOUND)
    spec = JobSpec.model_validate({"name": "job", "base": "model", "corpus": {"sources": ["text"]}})
    needed = estimate_disk(facts, derive(spec, facts), Checkpoints(keep_last=2, keep_best=1))
    held = Held(checkpoints=3 * needed.checkpoint, export=needed.export)
    missing = needed.total - 3 * needed.checkpoint - needed.export
    check_disk(needed, missing, "run", held)
    with pytest.raises(InvalidInput, match=r"more.*are free"):
        check_disk(needed, missing - 1, "run", held)
    pinned = Held(checkpoints=100 * needed.checkpoint)
    assert needed.missing(pinned) == needed.total - 4 * needed.checkpoint, "those to come must fit beside them"
