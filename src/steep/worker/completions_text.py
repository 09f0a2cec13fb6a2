"""The text of a row as its tokens come: what is told of it is certain, and never taken back.

A token may be part of a letter, and may be the beginning of what ends the text; such text waits until it is clear.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from steep.spec.completions import TokenScore

if TYPE_CHECKING:
    from steep.model.continuations import Token
    from steep.model.vocabulary import Vocabulary

_CONTEXT_TOKENS = 8
_LONGEST_LETTER_TOKENS = 8
"""A letter whose bytes have not come after this many tokens never will: the model wrote bytes that are none."""
_BROKEN = "\ufffd"


class Reading:
    """Text of tokens that come one by one.

    Args:
        vocabulary: their tokenizer.
        before: ids of what came before them; some tokenizers write a token differently at the beginning.
    """

    def __init__(self, vocabulary: Vocabulary, before: Sequence[int] = ()) -> None:
        self._vocabulary = vocabulary
        self._ids = list(before[-_CONTEXT_TOKENS:])
        self._told = len(self._ids)

    def add(self, token: int) -> str:
        """What the token adds to the text; nothing where it ends in the middle of a letter."""
        self._ids.append(token)
        text = self._beyond(self._ids)
        if text.endswith(_BROKEN) and len(self._ids) - self._told < _LONGEST_LETTER_TOKENS:
            return ""
        del self._ids[: max(self._told - _CONTEXT_TOKENS, 0)]
        self._told = len(self._ids)
        return text

    def end(self) -> str:
        """What is left at the end: a letter that is not whole."""
        return self._beyond(self._ids)

    def would_add(self, token: int) -> str:
        """What another token would add; of one that is no text, its name."""
        return self._beyond([*self._ids, token]) or self._vocabulary.name(token)

    def _beyond(self, ids: list[int]) -> str:
        known = self._vocabulary.decode(self._ids[: self._told])
        return self._vocabulary.decode(ids)[len(known) :]


def scored(reading: Reading, token: Token) -> TokenScore:
    """A token with what is known of how likely it was; it becomes part of the text."""
    others = [(each, reading.would_add(each), logprob) for each, logprob in token.top]
    text = reading.add(token.id)
    top: dict[str, float] = {}
    for each, other, logprob in others:
        top.setdefault(text if each == token.id and text else other, logprob)  # two may look alike: the likelier stays
    return TokenScore(text=text, logprob=token.logprob, top=top)


class Row:
    """A text that is written.

    Args:
        vocabulary: of the model.
        prompt: ids that it goes on from.
        stop: it ends before the first of these.
        is_scored: whether it is told how likely its tokens were.
    """

    def __init__(self, vocabulary: Vocabulary, prompt: Sequence[int], stop: tuple[str, ...], is_scored: bool) -> None:
        self.finish: Literal["stop", "length"] | None = None
        self._eos_id = vocabulary.eos_id
        self._reading = Reading(vocabulary, prompt)
        self._stop = stop
        self._is_scored = is_scored
        self._held = ""
        self._told_letters = 0
        self._scores: deque[tuple[TokenScore, int]] = deque()
        self._read_letters = 0

    def add(self, token: Token) -> tuple[str, tuple[TokenScore, ...]]:
        """A token comes. Returns text that can be told, and the scores of its tokens."""
        if token.id == self._eos_id:
            return self.end("stop")
        if self._is_scored:
            score = scored(self._reading, token)
            text = score.text
            self._scores.append((score, self._read_letters))
        else:
            text = self._reading.add(token.id)
        self._read_letters += len(text)
        self._held += text
        place = min((at for each in self._stop if (at := self._held.find(each)) >= 0), default=None)
        if place is not None:
            self.finish = "stop"
            return self._tell(place, is_last=True)
        return self._tell(len(self._held) - self._num_unclear(), is_last=False)

    def end(self, finish: Literal["stop", "length"]) -> tuple[str, tuple[TokenScore, ...]]:
        """Nothing more comes. Returns the rest."""
        self.finish = finish
        self._held += self._reading.end()
        return self._tell(len(self._held), is_last=True)

    def _num_unclear(self) -> int:
        """Letters at the end that may be the beginning of what ends the text."""
        longest = max((len(each) - 1 for each in self._stop), default=0)
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(each.startswith(self._held[-length:]) for each in self._stop):
                return length
        return 0

    def _tell(self, letters: int, *, is_last: bool) -> tuple[str, tuple[TokenScore, ...]]:
        text, self._held = self._held[:letters], self._held[letters:]
        self._told_letters += len(text)
        scores = []
        while self._scores and (self._scores[0][1] < self._told_letters or (not self._held and not is_last)):
            scores.append(self._scores.popleft()[0])
        return text, tuple(scores)
