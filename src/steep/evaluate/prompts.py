"""The same prompts, continued by the base and by the selected model, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from steep.spec.results import Completion

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_NEW_TOKENS = 64


def continuations(
    model: PreTrainedModel, tokenizer_dir: str, prompts: Sequence[str], *, max_new_tokens: int = MAX_NEW_TOKENS
) -> list[str]:
    """How `model` goes on from each prompt, greedily, without the prompt itself."""
    from steep.model.generate import complete

    return list(complete(model, tokenizer_dir, list(prompts), max_new_tokens)) if prompts else []


def side_by_side(prompts: Sequence[str], base: Sequence[str], selected: Sequence[str]) -> tuple[Completion, ...]:
    """One `Completion` a prompt. The two models need not be in memory together: each makes its list on its own."""
    return tuple(
        Completion(prompt=prompt, base=before, selected=after)
        for prompt, before, after in zip(prompts, base, selected, strict=True)
    )
