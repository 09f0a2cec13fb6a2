"""Decontamination: finding training documents that hold evaluation text, by runs of 13 words (Brown et al. 2020, appendix C).

Every document keeps a sample of its runs, those whose hash ends in zeros (so the same runs are sampled in every text); about a
hundred of them say how much of a long text is found elsewhere. Evaluation text, of which there is little, keeps all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from steep.corpus.words import Hashes, Rows, ngram_hashes, word_hashes

STEP = "decontaminate"
REASON = "evaluation_text"
RUN_WORDS = 13
MAX_SHARE = (
    0.5  # of a document's runs that may stand in evaluation text; also of one evaluation text's runs in a document
)
SAMPLED_RUNS = 128  # of a long document, at least
MIN_RUNS = 4  # of an evaluation text that is looked for in longer ones: a short one may be quoted


def sample_runs(words: Rows) -> Rows:
    """The sampled runs of each text: all of a short one, else the half, quarter, ... of at least `SAMPLED_RUNS`."""
    runs = ngram_hashes(words, RUN_WORDS)
    counts = runs.stops - runs.starts
    shifts = np.maximum(0, np.floor(np.log2(np.maximum(counts, 1) / SAMPLED_RUNS))).astype(np.uint64)
    masks = (np.uint64(1) << shifts) - np.uint64(1)
    chosen = (runs.values & np.repeat(masks, counts)) == 0
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(chosen)])
    return Rows(runs.values[chosen], sums[runs.stops])


class EvaluationText:
    """All text that models are measured on, as an index of its runs.

    Args:
        texts: the evaluation texts, each of them a hold-out document, a piece of one, or a prompt.
        groups: a number for each text; texts of a document's own group do not count against it.
    """

    def __init__(self, texts: Sequence[str], groups: Sequence[int]) -> None:
        runs = ngram_hashes(word_hashes(texts), RUN_WORDS)
        owners = np.repeat(np.arange(len(texts)), runs.stops - runs.starts)
        order = np.argsort(runs.values, kind="stable")
        self._values, self._owners = runs.values[order], owners[order]
        self._groups = np.asarray(groups, dtype=np.int64)
        self._totals = np.bincount(owners, minlength=len(texts)).astype(np.int64)
        self._present = np.zeros(2**20, dtype=np.bool_)
        self._present[self._slots(self._values)] = True

    def suspects(self, runs: Rows) -> npt.NDArray[np.int64]:
        """Which documents may hold evaluation text at all: a quick look at their sampled runs."""
        likely = np.flatnonzero(self._present[self._slots(runs.values)])
        return np.unique(np.searchsorted(runs.stops, likely, side="right"))

    def contaminates(self, runs: Hashes, num_runs: int, group: int = -1) -> bool:
        """Whether a document holds too much of evaluation text, or too much of one evaluation text.

        Args:
            runs: its sampled runs.
            num_runs: how many runs it has in all, sampled or not.
            group: the document's own group.
        """
        runs = runs[self._present[self._slots(runs)]] if (sampled := len(runs)) else runs
        first = np.searchsorted(self._values, runs, side="left")
        counts = np.searchsorted(self._values, runs, side="right") - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        places = np.repeat(first, counts) + within  # every place in evaluation text where one of the runs stands
        which = np.repeat(np.arange(len(runs)), counts)
        owners = self._owners[places]
        foreign = self._groups[owners] != group
        if not foreign.any():
            return False
        if len(np.unique(which[foreign])) > MAX_SHARE * sampled:
            return True
        pairs = np.unique(np.stack([owners[foreign], which[foreign]]), axis=1)
        numbers, held = np.unique(pairs[0], return_counts=True)
        totals = self._totals[numbers]
        share = held * (num_runs / sampled) / np.maximum(totals, 1)
        return bool(((share > MAX_SHARE) & (totals >= MIN_RUNS)).any())

    @staticmethod
    def _slots(values: Hashes) -> npt.NDArray[np.int64]:
        return (values >> np.uint64(44)).astype(np.int64)
