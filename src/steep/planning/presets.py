"""Presets by corpus size: what is known to work for a small, a medium and a large corpus.

Sources: replay shares from Ibrahim et al. 2024 (arXiv 2403.08763) and from measurements with a 5M-parameter base, where
25 % replay bought most for 2M tokens; epochs from Muennighoff et al. 2023 (up to four are nearly as good as new data).
"""

from __future__ import annotations

from dataclasses import dataclass

TINY_TOKENS = 10_000_000
SMALL_TOKENS = 100_000_000
LARGE_TOKENS = 1_000_000_000
MAX_USEFUL_EPOCHS = 4.0
LONG_DECAY_SHARE = 0.2
LONG_DECAY_REASON = "the last fifth, as 1 - sqrt; the trunk before it can be branched"


@dataclass(frozen=True, slots=True)
class Preset:
    """Defaults for one class of corpus."""

    name: str
    replay_share: float
    epochs: float
    replay_reason: str
    epochs_reason: str
    decay_share: float
    decay_reason: str


def preset_for(train_tokens: int) -> Preset:
    """The preset for a corpus of `train_tokens` tokens: small below 100M, large from 1B, medium between."""
    if train_tokens < SMALL_TOKENS:
        tiny = train_tokens < TINY_TOKENS
        return Preset(
            name="small",
            replay_share=0.25,
            epochs=MAX_USEFUL_EPOCHS if tiny else 2.0,
            replay_reason="below 100M tokens the text is narrow and repeated, where forgetting is worst",
            epochs_reason="up to four epochs are nearly as good as new text, and below 10M tokens every pass is needed"
            if tiny
            else "two epochs are nearly as good as twice the text, and forget less than four",
            decay_share=0.5,
            decay_reason="half of a short run, as 1 - sqrt: measured to learn more and to forget a third less than a fifth "
            "does; the trunk before it can be branched",
        )
    if train_tokens < LARGE_TOKENS:
        return Preset(
            name="medium",
            replay_share=0.10,
            epochs=2.0,
            replay_reason="between 100M and 1B tokens a tenth wins back most of the general loss at little cost",
            epochs_reason="two epochs are nearly as good as twice the text",
            decay_share=LONG_DECAY_SHARE,
            decay_reason=LONG_DECAY_REASON,
        )
    return Preset(
        name="large",
        replay_share=0.05,
        epochs=1.0,
        replay_reason="from 1B tokens a twentieth of the tokens is plenty of general text",
        epochs_reason="from 1B tokens one pass is enough",
        decay_share=LONG_DECAY_SHARE,
        decay_reason=LONG_DECAY_REASON,
    )
