"""Is continued pretraining the right tool for this job? Each answer rests on a measured number.

The checks are those of the list "when CPT is right": a corpus that is large enough, a domain that the base does not know
yet, raw text rather than instruction-response pairs, a base that is not instruction-tuned, and replay against forgetting.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from steep.planning.facts import Facts
from steep.planning.presets import MAX_USEFUL_EPOCHS
from steep.planning.recipe import Recipe
from steep.spec.units import format_tokens

TINY_CORPUS_TOKENS = 100_000
TOKENS_PER_PARAMETER = (
    0.1  # papers call 100M tokens little at about 1B parameters; at 5M, 2M tokens gained 1.5 bits per byte here
)
ENOUGH_TOKENS = (
    1_000_000_000  # for a base of any size: from here on what is written about CPT does not call a corpus small
)
LOW_BYTES_PER_TOKEN = 2.7  # English is near 4 with a tokenizer that fits; 1.5 x as many tokens is a poor fit
HIGH_RATE_FACTOR = 3.0
PAIRED_SHARE = 0.5
INSTRUCT_NAMES = ("instruct", "chat", "-it", "-sft", "-dpo", "-rlhf")
PAIR_MARKERS = (
    "### Instruction",
    "### Response",
    "<|im_start|>",
    "[INST]",
    "<|user|>",
    "\nAssistant:",
    "<start_of_turn>",
)


@dataclass(frozen=True, slots=True)
class Advice:
    """A sentence for people, as a notice's level, code and message."""

    level: Literal["info", "warning"]
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class CorpusShape:
    """What a sample of the corpus looks like."""

    instruction_share: float = 0.0


def describe_texts(texts: Iterable[str]) -> CorpusShape:
    """Look at a sample of documents for the marks of instruction-response pairs and chat templates."""
    num_texts = num_marked = 0
    for text in texts:
        num_texts += 1
        num_marked += any(marker in text for marker in PAIR_MARKERS)
    return CorpusShape(instruction_share=num_marked / num_texts if num_texts else 0.0)


def is_instruct(model: str, directory: Path) -> bool:
    """Whether a base looks instruction-tuned: its tokenizer carries a chat template, or its name says so.

    Args:
        model: what the job calls it, a directory or a hub id.
        directory: where its files lie.
    """
    config = directory / "tokenizer_config.json"
    settings = json.loads(config.read_bytes()) if config.exists() else {}
    has_template = bool(settings.get("chat_template")) or (directory / "chat_template.jinja").exists()
    name = model.rsplit("/", 1)[-1].lower()
    return has_template or any(mark in name for mark in INSTRUCT_NAMES)


def advise(
    facts: Facts,
    recipe: Recipe,
    *,
    instruct: bool = False,
    shape: CorpusShape = CorpusShape(),
    auto_rate: float | None = None,
) -> list[Advice]:
    """All that should be said before training, the weightiest first; empty when nothing speaks against it.

    Args:
        facts: what was measured.
        recipe: what will be done.
        instruct: the base is instruction-tuned, see `is_instruct`.
        shape: what the corpus looks like, see `describe_texts`.
        auto_rate: the rate that would have been derived, where the user gave another.
    """
    found = [
        *_about_corpus(facts, recipe, shape),
        *(() if facts.from_scratch else _about_base(facts, instruct)),
        *_about_recipe(facts, recipe, auto_rate),
    ]
    return sorted(found, key=lambda advice: advice.level != "warning")


def enough_tokens(facts: Facts) -> float:
    """Tokens of text from which a model of this size learns well: a tenth of its parameters, or all of them from scratch.

    A large model has more to forget and more room to learn a small text by heart. The tenth joins two findings: below 100M
    tokens, models of about 1B parameters can lose more in general than they gain in the domain, and 0.4 tokens a
    parameter were plenty for one of 5M. A new model knows nothing that could help it.
    """
    if facts.from_scratch:
        return facts.parameters
    return min(TOKENS_PER_PARAMETER * facts.parameters, ENOUGH_TOKENS)


def _about_corpus(facts: Facts, recipe: Recipe, shape: CorpusShape) -> Iterable[Advice]:
    tokens = facts.train_tokens
    if shape.instruction_share > PAIRED_SHARE:
        yield Advice(
            "warning",
            "instruction_data",
            f"{shape.instruction_share:.0%} of the documents look like instruction-response pairs or chats; they teach behaviour, "
            "for which supervised fine-tuning (SFT) is the right tool",
        )
    if tokens < recipe.step_tokens * 10:
        yield Advice(
            "warning",
            "too_little_text",
            f"the corpus has {format_tokens(tokens)} tokens, less than ten optimizer steps of {format_tokens(recipe.step_tokens)}; "
            "a model learns next to nothing from so little, give it more text",
        )
    elif tokens < TINY_CORPUS_TOKENS:
        yield Advice(
            "warning",
            "too_little_text",
            f"the corpus has {format_tokens(tokens)} tokens; with so little, general ability can suffer without a gain in the "
            "domain: watch the hold-outs, or put the text into the prompt (retrieval) instead",
        )
    elif tokens < enough_tokens(facts):
        method = "" if facts.from_scratch else " and consider `method: lora`"
        yield Advice(
            "warning",
            "little_text",
            f"the corpus has {format_tokens(tokens)} tokens for {format_tokens(facts.parameters)} parameters; a model of this size "
            f"learns well from about {format_tokens(enough_tokens(facts))} on, so trust the domain hold-out{method}",
        )
    fertility = facts.bytes_per_token
    if fertility is not None and fertility < LOW_BYTES_PER_TOKEN and not facts.from_scratch:
        yield Advice(
            "warning",
            "poor_tokenizer",
            f"a token stands for only {fertility:.2f} bytes of this corpus (about 4 in English text): the tokenizer does not know "
            "the language, so training and use cost more; a base with a fitting vocabulary would learn faster",
        )


def _about_base(facts: Facts, instruct: bool) -> Iterable[Advice]:
    if instruct:
        yield Advice(
            "warning",
            "instruct_base",
            "the base looks instruction-tuned (by its name, or the chat template of its tokenizer), and raw text wears that away; "
            "prefer its plain base model, then SFT, or add the "
            "chat vector (instruct minus base weights) afterwards",
        )
    if facts.domain_bpb is not None and facts.general_bpb is not None and facts.domain_bpb <= facts.general_bpb:
        yield Advice(
            "warning",
            "domain_known",
            f"the base already models the domain ({facts.domain_bpb:.3f} bits per byte) as well as general text "
            f"({facts.general_bpb:.3f}); there may be little to gain, and if only behaviour should change, use SFT",
        )


def _about_recipe(facts: Facts, recipe: Recipe, auto_rate: float | None) -> Iterable[Advice]:
    slack = 2 * recipe.step_tokens / facts.train_tokens  # a budget is rounded up to whole steps
    if recipe.epochs > MAX_USEFUL_EPOCHS + slack:
        yield Advice(
            "warning",
            "many_epochs",
            f"the corpus will be seen {recipe.epochs:.1f} times; beyond {MAX_USEFUL_EPOCHS:g} passes little is learned and much is "
            "memorised, so give more text or a smaller budget",
        )
    if recipe.replay_share == 0 and not facts.from_scratch:
        yield Advice(
            "warning",
            "no_replay",
            "there is no replay: the model will forget more of what it knew; even 5 % of general text, or text sampled from the "
            "base (`replay: self`), wins most of it back",
        )
    if auto_rate is not None and recipe.peak_rate > HIGH_RATE_FACTOR * auto_rate:
        yield Advice(
            "warning",
            "high_rate",
            f"the learning rate {recipe.peak_rate:g} is {recipe.peak_rate / auto_rate:.1f} times what would be derived ({auto_rate:g}); "
            "a higher rate learns more and forgets more",
        )
    if not recipe.pace_is_measured:
        yield Advice(
            "info",
            "pace_unknown",
            "the budget is given in time and the training speed is not measured yet, so the number of steps is provisional",
        )
