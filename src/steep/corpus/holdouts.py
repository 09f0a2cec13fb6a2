"""Hold-outs of a prepared corpus: chosen, cut into pieces to score, and put into the order of a stable hash.

So the first pieces of a hold-out are a fair sample of it, and the same ones for every model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from steep.artifacts.pieces import cut_pieces
from steep.corpus.copies import Decisions, Fate
from steep.corpus.document import text_bytes
from steep.corpus.split import choose, cuts_documents, piece_keys
from steep.corpus.words import Hashes


@dataclass(slots=True)
class Holdout:
    """Pieces of text held out of one source, in the order of their keys.

    Attributes:
        max_bytes: what lies beyond this much text is not kept.
        pieces: key and text of each.
        text_bytes: size of the pieces kept.
        left_bytes: size of those that were not.
        limit: of a source whose documents were cut, the largest key that is held out; else None.
    """

    max_bytes: float = float("inf")
    pieces: list[tuple[int, str]] = field(default_factory=list)
    text_bytes: int = 0
    left_bytes: int = 0
    limit: int | None = None

    def add(self, texts: list[str]) -> None:
        """Keep some pieces, as far as there is room."""
        for key, text in zip(piece_keys(texts).tolist(), texts, strict=True):
            self.pieces.append((key, text))
            self.text_bytes += text_bytes(text)
        if self.text_bytes > 2 * self.max_bytes:
            self.settle()

    def settle(self) -> None:
        """Put the pieces in order, and leave those for which there is no room."""
        self.pieces.sort()
        while len(self.pieces) > 1 and self.text_bytes > self.max_bytes:
            size = text_bytes(self.pieces.pop()[1])
            self.text_bytes -= size
            self.left_bytes += size

    @property
    def texts(self) -> list[str]:
        """The pieces."""
        return [text for _, text in self.pieces]


def hold_out(decisions: Decisions, share: float, max_bytes: float = float("inf")) -> Holdout:
    """Hold out a share of one source's documents, or of their pieces; marks whole ones in `decisions.fates`.

    Args:
        decisions: on the documents of the source.
        share: of them.
        max_bytes: see `Holdout`.
    """
    holdout = Holdout(max_bytes)
    trained = np.flatnonzero(decisions.fates == Fate.TRAIN)
    if cuts_documents(len(trained), decisions.bytes_of(Fate.TRAIN), share):
        _cut(decisions, share, holdout)
    else:
        decisions.fates[trained[choose(decisions.keys[trained], share)]] = Fate.HOLDOUT
        for text in decisions.texts(Fate.HOLDOUT):
            holdout.add(cut_pieces(text))
    holdout.settle()
    return holdout


def hold_all(decisions: Decisions, max_bytes: float) -> Holdout:
    """Hold out every document that is no copy: of a source that forgetting is measured on."""
    holdout = Holdout(max_bytes)
    decisions.fates[decisions.fates == Fate.TRAIN] = Fate.HOLDOUT
    for text in decisions.texts(Fate.HOLDOUT):
        holdout.add(cut_pieces(text))
    holdout.settle()
    return holdout


def _cut(decisions: Decisions, share: float, holdout: Holdout) -> None:
    """Hold out pieces of the documents: first all keys, to know which, then the pieces."""
    keys: list[Hashes] = [piece_keys(cut_pieces(text)) for text in decisions.texts(Fate.TRAIN)]
    every = np.concatenate([np.zeros(0, np.uint64), *keys])
    chosen = every[choose(every, share)]
    if not len(chosen):
        return
    holdout.limit = int(chosen.max())
    for text, own in zip(decisions.texts(Fate.TRAIN), keys, strict=True):
        if (own <= np.uint64(holdout.limit)).any():
            pieces = zip(cut_pieces(text), own.tolist(), strict=True)
            holdout.add([piece for piece, key in pieces if key <= holdout.limit])
