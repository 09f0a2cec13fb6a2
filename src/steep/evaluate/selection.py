"""The rule that chooses what is exported: the most gain within the forgetting budget. Pure, over a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steep.spec.results import Score

TIE_BPB = 1e-4  # smaller differences of gain or forgetting decide nothing: the earlier model is taken
ROUNDING_BPB = 1e-9


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen row's index, why it was chosen, and what should be said about it."""

    index: int
    reason: str
    warnings: tuple[str, ...] = ()


def select(scores: Sequence[Score], forgetting_budget: float | None) -> Selection:
    """Choose a row of `scores`, whose first is the base.

    Checkpoints, averages and interpolations compete alike. Of those that gain anything (more than `TIE_BPB`) and forget no
    more than the budget, the one with most gain wins; differences up to `TIE_BPB` go to the one that saw fewer tokens, then
    to the one that forgets less, then to the one that stands first. When none qualifies, the least forgetting of those
    that gain is taken, with a warning. The base is chosen only when nothing gains.

    Without text held out of the domain no gain is known: then the last trained weights within the budget are taken, with a
    warning.

    Args:
        scores: the base first, then everything measured; not empty.
        forgetting_budget: bits per byte that the worst general hold-out may lose; None where there is nothing to forget.
    """
    if math.isnan(scores[0].domain_bpb) and not scores[0].domain:
        return _without_domain(scores, forgetting_budget)
    finite = [i for i in range(1, len(scores)) if math.isfinite(scores[i].gain) and math.isfinite(scores[i].forgetting)]
    broken = len(scores) - 1 - len(finite)
    warnings = [f"{broken} of {len(scores) - 1} models have no finite score and were left out"] if broken else []
    gaining = [i for i in finite if scores[i].gain > TIE_BPB]
    if not gaining:
        warnings.append(
            "nothing that was measured models the domain better than the base, so the base itself is selected"
        )
        return Selection(0, "nothing gains on the base", tuple(warnings))
    qualified = [i for i in gaining if _within(scores[i], forgetting_budget)]
    if qualified or forgetting_budget is None:
        most = max(scores[i].gain for i in qualified)
        chosen = _earliest(scores, [i for i in qualified if scores[i].gain >= most - TIE_BPB])
        return Selection(chosen, _most_gain(scores[chosen], len(qualified), forgetting_budget), tuple(warnings))
    least = min(scores[i].forgetting for i in gaining)
    chosen = _earliest(scores, [i for i in gaining if scores[i].forgetting <= least + TIE_BPB])
    row = scores[chosen]
    warnings.append(
        f"nothing that gains keeps forgetting within {forgetting_budget:g} bits per byte; the least is {row.forgetting:+.4f}"
        f"{_where(row)}: give more replay, a lower learning rate, or a larger evaluation.forgetting_budget"
    )
    reason = (
        f"{row.label}: the least forgetting ({row.forgetting:+.4f}), as nothing that gains is within the budget of "
        f"{forgetting_budget:g}"
    )
    return Selection(chosen, reason, tuple(warnings))


def _most_gain(row: Score, num_qualified: int, forgetting_budget: float | None) -> str:
    """Why a row was chosen among those that gain and, where anything can be forgotten, keep within the budget."""
    gain = f"{row.gain:+.4f} bits per byte"
    if forgetting_budget is None:
        among = (
            f"the most gain ({gain}) of the {num_qualified} that gain"
            if num_qualified > 1
            else f"the only one that gains ({gain})"
        )
        return f"{row.label}: {among}"
    among = (
        f"the most gain ({gain}) of the {num_qualified} that keep"
        if num_qualified > 1
        else f"the only one that gains ({gain}) and keeps"
    )
    return f"{row.label}: {among} forgetting within {forgetting_budget:g}; it is {row.forgetting:+.4f}{_where(row)}"


def _within(row: Score, forgetting_budget: float | None) -> bool:
    return forgetting_budget is None or row.forgetting <= forgetting_budget + ROUNDING_BPB


def _without_domain(scores: Sequence[Score], forgetting_budget: float | None) -> Selection:
    """The choice where the domain was not measured: the user asked for training, so not the base unless nothing is sound."""
    trained = [
        i for i, row in enumerate(scores) if row.kind in ("checkpoint", "average") and math.isfinite(row.forgetting)
    ]
    if not trained:
        return Selection(
            0, "nothing else was measured", ("no trained weights could be measured, so the base is selected",)
        )
    warnings = [
        "no text of the domain is held out, so the gain is not known; raise corpus.holdout, or give more documents"
    ]
    qualified = [i for i in trained if _within(scores[i], forgetting_budget)]
    if qualified or forgetting_budget is None:
        chosen = max(qualified, key=lambda i: (scores[i].tokens_seen, scores[i].kind == "average"))
        which = "was trained" if forgetting_budget is None else f"keeps forgetting within {forgetting_budget:g}"
        return Selection(
            chosen, f"{scores[chosen].label}: the last that {which}, as the gain was not measured", tuple(warnings)
        )
    least = min(scores[i].forgetting for i in trained)
    chosen = _earliest(scores, [i for i in trained if scores[i].forgetting <= least + TIE_BPB])
    row = scores[chosen]
    warnings.append(
        f"nothing keeps forgetting within {forgetting_budget:g} bits per byte; the least is {row.forgetting:+.4f}{_where(row)}"
    )
    return Selection(chosen, f"{row.label}: the least forgetting ({row.forgetting:+.4f})", tuple(warnings))


def mark(scores: Sequence[Score], selection: Selection) -> tuple[Score, ...]:
    """The rows with exactly the chosen one marked as selected."""
    return tuple(row.model_copy(update={"selected": i == selection.index}) for i, row in enumerate(scores))


def _earliest(scores: Sequence[Score], among: Sequence[int]) -> int:
    return min(among, key=lambda i: (scores[i].tokens_seen, scores[i].step, scores[i].forgetting, -scores[i].gain, i))


def _where(row: Score) -> str:
    return f" on {row.worst_general}" if row.worst_general else ""
