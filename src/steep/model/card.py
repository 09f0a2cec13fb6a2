"""The model card of an export: what the model is, what it was made from and how, and what was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from steep.spec.results import Results, Score
from steep.spec.units import format_bytes, format_tokens


@dataclass(frozen=True, slots=True)
class CardSource:
    """Text that the model was trained on.

    Args:
        name: of the source.
        documents, tokens, text_bytes: in its training part.
        share: of all trained tokens.
    """

    name: str
    documents: int
    tokens: int
    text_bytes: int
    share: float


@dataclass(frozen=True, slots=True)
class CardFacts:
    """All that a model card says.

    Args:
        name: of the job.
        base: hub id or name of the base; None for a model from random weights.
        results: what was measured on the base and on all candidates.
        row: the exported one.
        sources: text it was trained on, replay among it.
        recipe: `(setting, value, why)` of each setting.
        base_license: identifier of the base's licence, where its card names one.
        tags: of the job.
        charts: names of chart files in the export, with what they show.
        lineage: where the weights come from, the oldest first.
        version: of Steep.
    """

    name: str
    base: str | None
    results: Results
    row: Score
    sources: Sequence[CardSource] = ()
    recipe: Sequence[tuple[str, str, str]] = ()
    base_license: str | None = None
    tags: Sequence[str] = ()
    charts: Sequence[tuple[str, str]] = ()
    lineage: Sequence[str] = ()
    version: str = ""


def model_card(facts: CardFacts) -> str:
    """The card as Markdown with a YAML head, as the hub reads it."""
    parts = [
        _head(facts),
        f"# {facts.name}\n\n{_summary(facts)}",
        _measured(facts),
        _charts(facts),
        _data(facts),
        _recipe(facts),
        _lineage(facts),
        _licence(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(facts: CardFacts) -> str:
    """Strings are written as JSON, which is YAML whatever they hold."""
    tags = ["continued-pretraining" if facts.base is not None else "pretraining", "steep", *facts.tags]
    lines = ["library_name: transformers", "pipeline_tag: text-generation"]
    if facts.base is not None:
        lines.append(f"base_model: {json.dumps(facts.base, ensure_ascii=False)}")
    if facts.base_license is not None:
        lines.append(f"license: {json.dumps(facts.base_license, ensure_ascii=False)}")
    lines += ["tags:", *(f"- {json.dumps(tag, ensure_ascii=False)}" for tag in dict.fromkeys(tags))]
    return "\n".join(["---", *lines, "---"])


def _summary(facts: CardFacts) -> str:
    row = facts.row
    if facts.base is None:
        made = f"A language model, pretrained from random weights on {format_tokens(row.tokens_seen)} tokens"
    else:
        made = f"`{facts.base}` after continued pretraining on {format_tokens(row.tokens_seen)} tokens"
    if row.kind == "interpolation":
        made += (
            f"; its weights are a mix, {row.alpha:g} of checkpoint {row.step} and {1 - (row.alpha or 0):g} of the base"
        )
    elif row.kind == "average":
        made += f"; its weights are an average over the last steps before step {row.step}"
    if math.isfinite(row.gain):
        gained = f"On text of its domain it needs {_bpb(row.domain_bpb)} bits per byte, {_bpb(abs(row.gain))} "
        gained += f"{'less' if row.gain >= 0 else 'more'} than before."
    else:
        gained = "What it gained on text of its domain was not measured."
    if facts.base is None or not row.general:
        return f"{made}.\n\n{gained}"
    worse = f"On general text it forgot {row.forgetting:+.3f} bits per byte at worst"
    return f"{made}.\n\n{gained} {worse}{f' ({row.worst_general})' if row.worst_general else ''}."


def _measured(facts: CardFacts) -> str:
    """Each hold-out, before and after."""
    before = next((score for score in facts.results.scores if score.kind == "base"), None)
    rows = []
    for kind, then, now in (
        ("domain", before.domain if before else {}, facts.row.domain),
        ("general", before.general if before else {}, facts.row.general),
    ):
        for name, value in now.items():
            old = then.get(name)
            rows.append(
                (
                    f"{name} ({kind})",
                    "" if old is None else _bpb(old),
                    _bpb(value),
                    "" if old is None else f"{value - old:+.3f}",
                )
            )
    table = _table(("hold-out", "base" if facts.base is not None else "random weights", "this model", "change"), rows)
    tasks = _table(
        ("task", "metric", "base", "this model"),
        [
            (task, metric, _number(before.tasks.get(task, {}).get(metric) if before else None), _number(value))
            for task, metrics in facts.row.tasks.items()
            for metric, value in metrics.items()
        ],
    )
    note = "Bits per byte of UTF-8 text that was kept out of training, whatever the tokenizer; less is better."
    why = (
        f"Chosen among {len(facts.results.scores)} candidates: {facts.results.selection_reason}"
        if facts.results.selection_reason
        else ""
    )
    return "\n\n".join(part for part in ("## What was measured", note, table, tasks, why) if part)


def _charts(facts: CardFacts) -> str:
    return "\n\n".join(f"![{what}]({file})" for file, what in facts.charts)


def _data(facts: CardFacts) -> str:
    if not facts.sources:
        return ""
    rows = [
        (s.name, f"{s.documents:,}", format_tokens(s.tokens), format_bytes(s.text_bytes), f"{100 * s.share:.3g} %")
        for s in facts.sources
    ]
    return "## Text\n\n" + _table(("source", "documents", "tokens", "text", "share of training"), rows)


def _recipe(facts: CardFacts) -> str:
    return "## Recipe\n\n" + _table(("setting", "value", "why"), facts.recipe) if facts.recipe else ""


def _lineage(facts: CardFacts) -> str:
    made = f"Made with Steep{f' {facts.version}' if facts.version else ''}."
    return "\n".join(
        ["## Lineage", "", *(f"- {line}" for line in facts.lineage), *([""] if facts.lineage else []), made]
    )


def _licence(facts: CardFacts) -> str:
    text = "the text that it was trained on has its own, which its owners decide."
    if facts.base is None:
        return f"## Licence\n\nThe weights begin with random numbers; {text}"
    base = (
        f"`{facts.base_license}`"
        if facts.base_license
        else "not named in its card; look it up before you pass this model on"
    )
    return f"## Licence\n\nThe base model's licence, which holds for this model too: {base}. Besides, {text}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, or nothing where it has no rows."""
    lines = [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]) if lines else ""


def _bpb(value: float) -> str:
    return f"{value:.3f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
