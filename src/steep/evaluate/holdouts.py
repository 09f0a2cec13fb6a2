"""A model's bits per byte on every hold-out, domain and general."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from steep.artifacts.tokens import TokenDataset
from steep.evaluate.compare import Measurement

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Progress = Callable[[str, float, float | None], None]


def measure(
    model: PreTrainedModel,
    domain: Mapping[str, TokenDataset],
    general: Mapping[str, TokenDataset],
    *,
    max_tokens: int,
    context: int,
    progress: Progress | None = None,
) -> Measurement:
    """Score `model` on all hold-outs: the same text for every model, in the same windows.

    Args:
        model: on its device, in any mode; it is left as it was.
        domain: hold-outs of the corpus, by source.
        general: hold-outs of general text, by name.
        max_tokens: tokens scored of each hold-out at most (whole pieces of text).
        context: tokens of a window; the base's own context, so that every checkpoint is measured alike.
        progress: told of each hold-out done.
    """
    from steep.model.score import score_dataset

    bpb: dict[str, dict[str, float]] = {"domain": {}, "general": {}}
    text_bytes: dict[str, dict[str, int]] = {"domain": {}, "general": {}}
    total, done = len(domain) + len(general), 0
    for group, datasets in (("domain", domain), ("general", general)):
        for name, dataset in datasets.items():
            if progress is not None:
                progress(f"scoring {name}", done, total)
            score = score_dataset(model, dataset, max_tokens=max_tokens, context=context)
            bpb[group][name] = score.bpb
            text_bytes[group][name] = score.text_bytes
            done += 1
    if progress is not None:
        progress("hold-outs scored", total, total)
    return Measurement(
        domain=bpb["domain"],
        general=bpb["general"],
        domain_bytes=text_bytes["domain"],
        general_bytes=text_bytes["general"],
    )
