"""Decontamination: finding training documents that hold evaluation text, by runs of 13 words (Brown et al. 2020, appendix C).

A long document keeps a quarter of its runs, those whose hash ends in zeros, so that the same ones are kept of every text.
Evaluation text, of which there is little, keeps all. Runs that many documents share, such as the sentences of a form,
are nobody's evaluation text and do not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from steep.corpus.words import Hashes, Positions, Rows, ngram_hashes, word_hashes

STEP = "decontaminate"
REASON = "evaluation_text"
RUN_WORDS = 13
MAX_SHARE = 0.5  # of a document's runs that may stand in evaluation text, and of an evaluation text's in a document
SAMPLED_RUNS = 128  # of a document that has more, at least
_MAX_SHIFT = 2  # one in four
COMMON_DOCUMENTS = 10  # a run that stands in more of them is common
MIN_RUNS = 8  # of an evaluation text that is looked for in longer ones: a short one may be quoted
_SLOT_BITS = 20


def sample_runs(words: Rows) -> Rows:
    """The sampled runs of each text: all of a short one, half of a longer one, a quarter of a long one."""
    runs = ngram_hashes(words, RUN_WORDS)
    counts = runs.stops - runs.starts
    shifts = np.clip(np.floor(np.log2(np.maximum(counts, 1) / SAMPLED_RUNS)), 0, _MAX_SHIFT).astype(np.uint64)
    masks = (np.uint64(1) << shifts) - np.uint64(1)
    chosen = (runs.values & np.repeat(masks, counts)) == 0
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(chosen)])
    return Rows(runs.values[chosen], sums[runs.stops])


def long_enough(texts: Sequence[str]) -> list[str]:
    """Those texts that are looked for in longer ones; the others are phrases that any text may hold."""
    words = word_hashes(texts)
    lengths = words.stops - words.starts
    return [text for text, length in zip(texts, lengths.tolist(), strict=True) if length >= RUN_WORDS + MIN_RUNS - 1]


class EvaluationText:
    """All text that models are measured on, as an index of its runs.

    First show it every training document (`meet`), then leave out what is common (`forget_common`), then ask.

    Args:
        texts: the evaluation texts, each of them a hold-out document, a piece of one, or a prompt.
        groups: a number for each text; texts of a document's own group do not count against it.
    """

    def __init__(self, texts: Sequence[str], groups: Sequence[int]) -> None:
        runs = ngram_hashes(word_hashes(texts), RUN_WORDS)
        owners = np.repeat(np.arange(len(texts)), runs.stops - runs.starts)
        order = np.argsort(runs.values, kind="stable")
        self._groups = np.asarray(groups, dtype=np.int64)
        self._index(runs.values[order], owners[order])
        self._met = np.zeros(len(self._values), dtype=np.int64)

    def meet(self, runs: Rows) -> None:
        """Count in how many of some documents each run of the evaluation text stands."""
        self._met += np.bincount(self._places(runs.values), minlength=len(self._values))

    def forget_common(self) -> None:
        """Leave out the runs that stand in more than `COMMON_DOCUMENTS` of the documents met."""
        kept = np.repeat(self._met <= COMMON_DOCUMENTS, np.diff(self._bounds))
        values = np.repeat(self._values, np.diff(self._bounds))
        self._index(values[kept], self._owners[kept])

    def suspects(self, runs: Rows) -> Positions:
        """Which documents hold any run of evaluation text."""
        likely = np.flatnonzero(self._likely(runs.values))
        places = np.searchsorted(self._values, runs.values[likely])
        there = np.append(self._values, 0)[places] == runs.values[likely]
        return np.unique(np.searchsorted(runs.stops, likely[there], side="right"))

    def contaminates(self, runs: Hashes, num_runs: int, group: int = -1) -> bool:
        """Whether a document holds too much of evaluation text, or too much of one evaluation text.

        Args:
            runs: its sampled runs.
            num_runs: how many runs it has in all, sampled or not.
            group: the document's own group.
        """
        runs = np.unique(runs)
        sampled = len(runs)
        places = self._places(runs)
        counts = self._bounds[places + 1] - self._bounds[places]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        owners = self._owners[np.repeat(self._bounds[places], counts) + within]
        which = np.repeat(np.arange(len(places)), counts)
        foreign = self._groups[owners] != group
        if len(np.unique(which[foreign])) > MAX_SHARE * sampled:
            return True
        pairs = np.unique(np.stack([owners[foreign], which[foreign]]), axis=1)
        numbers, held = np.unique(pairs[0], return_counts=True)
        totals = self._totals[numbers]
        share = held * (num_runs / max(sampled, 1)) / np.maximum(totals, 1)
        return bool(((share > MAX_SHARE) & (totals >= MIN_RUNS)).any())

    def _index(self, values: Hashes, owners: npt.NDArray[np.int64]) -> None:
        """Take over runs in ascending order with the texts that they stand in."""
        new = (
            np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
            if len(values)
            else np.zeros(0, np.int64)
        )
        self._values, self._owners = values[new], owners
        self._bounds = np.concatenate([new, [len(values)]])
        self._totals = np.bincount(owners, minlength=len(self._groups))
        self._slots = np.zeros(1 << _SLOT_BITS, dtype=np.bool_)
        self._slots[(values >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)] = True

    def _places(self, runs: Hashes) -> Positions:
        """Where in the index those runs are that it holds."""
        likely = runs[self._likely(runs)]
        places = np.searchsorted(self._values, likely)
        there = places < len(self._values)
        there[there] = self._values[places[there]] == likely[there]
        return places[there]

    def _likely(self, runs: Hashes) -> npt.NDArray[np.bool_]:
        """Which runs may be in the index, by their first bits."""
        return self._slots[(runs >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)]
