"""Which text is trained on, which is held out, and which is left out: second pass over a corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steep.corpus.copies import Decisions, Fate, find_copies
from steep.corpus.decontaminate import EvaluationText
from steep.corpus.holdouts import Holdout, hold_all, hold_out
from steep.corpus.parts import Part
from steep.corpus.plan import CorpusPlan
from steep.corpus.split import holdout_share, replay_holdout_share
from steep.corpus.words import Rows
from steep.spec.job import Dedup

Progress = Callable[[str, float, float | None], None]

SCORED_BYTES_PER_TOKEN = 8  # more than any tokenizer makes of text, so that what is kept is enough for `max_tokens`


@dataclass(slots=True)
class Choice:
    """What was decided of a corpus.

    Attributes:
        decisions: on the documents of each source, whatever its role.
        holdouts: what is held out of each.
    """

    decisions: dict[str, Decisions]
    holdouts: dict[str, Holdout]


def choose_texts(plan: CorpusPlan, parts: Mapping[str, Sequence[Part]], work: Path, progress: Progress) -> Choice:
    """Find copies, across all that is learned; hold text out; and leave out what holds evaluation text."""
    spec = plan.spec
    learned = plan.named("corpus") + plan.named("replay")
    together = find_copies([part for name in learned for part in parts[name]], spec.corpus.dedup, work, progress)
    choice = Choice({}, {})
    max_bytes = spec.evaluation.max_tokens * SCORED_BYTES_PER_TOKEN
    used = 0
    for name in learned:
        decisions = together.of_parts(used, len(parts[name]))
        used += len(parts[name])
        size = decisions.bytes_of(Fate.TRAIN)
        share = holdout_share(spec.corpus.holdout, size)
        if plan.roles[name] == "replay":
            share = replay_holdout_share(size, max_bytes)
        choice.decisions[name] = decisions
        choice.holdouts[name] = hold_out(decisions, share)
    for name in plan.named("general"):
        once = Dedup(exact=spec.corpus.dedup.exact, near=None)
        choice.decisions[name] = find_copies(parts[name], once, work, progress)
        choice.holdouts[name] = hold_all(choice.decisions[name], max_bytes)
    if spec.corpus.decontaminate:
        leave_out_evaluation_text(choice, learned, plan.asked_texts, progress)
    return choice


def leave_out_evaluation_text(
    choice: Choice, learned: Sequence[str], asked_texts: Sequence[str], progress: Progress
) -> None:
    """Mark the documents to train on that hold too much of what models are measured on.

    Args:
        choice: what was decided so far.
        learned: names of the sources that are trained on.
        asked_texts: text of the tasks and prompts that models are evaluated on, beside the hold-outs.
        progress: told of sources compared.
    """
    groups = {name: number for number, name in enumerate(choice.holdouts)}
    texts = [(text, groups[name]) for name, holdout in choice.holdouts.items() for text in holdout.texts]
    texts += [(text, len(groups)) for text in asked_texts]
    evaluation = EvaluationText([text for text, _ in texts], [group for _, group in texts])
    for name in learned:
        for part in choice.decisions[name].parts:
            evaluation.meet(_runs(part))
    evaluation.forget_common()
    for done, name in enumerate(learned):
        progress("sources compared with evaluation text", done, len(learned))
        was_cut = choice.holdouts[name].limit is not None  # then its documents lose what is held out of them
        _leave_out(choice.decisions[name], evaluation, groups[name] if was_cut else -1)
    progress("sources compared with evaluation text", len(learned), len(learned))


def _leave_out(decisions: Decisions, evaluation: EvaluationText, own_group: int) -> None:
    for index, part in enumerate(decisions.parts):
        runs, num_runs = _runs(part), part.marks("num_runs")["num_runs"]
        fates = decisions.fates[decisions.of_part(index)]
        for number in evaluation.suspects(runs).tolist():
            if fates[number] == Fate.TRAIN and evaluation.contaminates(
                runs.row(number), int(num_runs[number]), own_group
            ):
                fates[number] = Fate.EVALUATION_TEXT


def _runs(part: Part) -> Rows:
    marks = part.marks("runs", "run_stops")
    return Rows(marks["runs"], marks["run_stops"])
