"""A model in memory that completes prompts: loaded from an export, from a checkpoint, or from any directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steep.spec.completions import Done, Piece, TokenScore, Write
from steep.spec.errors import InvalidInput, ServerUnavailable
from steep.spec.units import format_bytes

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel
    from torch import Tensor
    from transformers import PreTrainedModel

    from steep.model.cache import GrowingCache
    from steep.model.vocabulary import Vocabulary
    from steep.worker.completions_text import Row

Say = Callable[["BaseModel"], None]


def load_directory(directory: Path, *, trust_remote_code: bool = False) -> Writer:
    """The model of an export, or any other in Hugging Face's layout.

    Raises:
        InvalidModel: it does not load.
        ServerUnavailable: it does not fit in the memory that is free.
    """
    from steep.model.load import load_model
    from steep.model.vocabulary import Vocabulary
    from steep.worker.context import this_device

    _require_room(directory, copies=1)
    model = load_model(str(directory), trust_remote_code=trust_remote_code).to(this_device())
    return Writer(model, Vocabulary.load(str(directory)))


def load_checkpoint(run: Path, step: int, *, trust_remote_code: bool = False) -> Writer:
    """The model of a run's checkpoint; adapters are merged.

    Raises:
        InvalidInput: there is no such run, or no such checkpoint.
        InvalidModel: its base does not load.
        DamagedArtifact: its bytes are not those of its manifest.
        ServerUnavailable: it does not fit in the memory that is free.
    """
    from steep.artifacts.rundir import RunDirectory
    from steep.model.files import find_model
    from steep.model.vocabulary import Vocabulary
    from steep.train.observer import Silent
    from steep.worker.context import Context
    from steep.worker.weights import RunModels

    directory = RunDirectory.existing(run)
    spec = directory.spec()
    trusted = spec.base.model_copy(update={"trust_remote_code": trust_remote_code and spec.base.trust_remote_code})
    spec = spec.model_copy(update={"base": trusted})
    context = Context(run=directory, spec=spec, observer=Silent(), should_stop=lambda: None)
    directory.catalog().get(step)
    _require_room(find_model(context.base), copies=3)  # the base, the checkpoint, and the model that takes them on
    model = RunModels(context).load("checkpoint", step)
    return Writer(model, Vocabulary.load(context.tokenizer))


def _require_room(directory: Path, *, copies: int) -> None:
    """Training on the same machine must not be ended by whoever tries a model out."""
    import psutil
    import torch

    from steep.model.files import weight_files
    from steep.model.load import stored_dtype

    stored = sum(file.stat().st_size for file in weight_files(directory))
    needed = stored * torch.float32.itemsize // stored_dtype(directory).itemsize * copies
    free = psutil.virtual_memory().available
    if needed > free:
        raise ServerUnavailable(
            f"the model takes {format_bytes(needed)} of memory, and {format_bytes(free)} are free now",
            where="model",
            cure="Try again when less is going on, or download the model and try it out elsewhere.",
        )


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A prompt as the model reads it.

    Args:
        ids: all that it reads.
        text: what an echo says.
        num_silent: of the ids, at the beginning, that are no part of that text.
    """

    ids: list[int]
    text: str
    num_silent: int


class Writer:
    """A model that completes prompts.

    Args:
        model: on its device.
        vocabulary: its tokenizer.
    """

    def __init__(self, model: PreTrainedModel, vocabulary: Vocabulary) -> None:
        from steep.model.score import context_tokens

        self._model = model
        self._vocabulary = vocabulary
        self.context_tokens = context_tokens(model)

    def carry_out(self, order: Write, say: Say, is_wanted: Callable[[], bool]) -> None:
        """Write what an order asks for.

        Args:
            order: of the server.
            say: told of each piece, and at last that it is done.
            is_wanted: whether somebody still waits for it; else nothing more is written.

        Raises:
            InvalidInput: a prompt is longer than the context, or has ids that the vocabulary does not.
        """
        import torch

        prompts = [self._prompt(given, f"prompt.{number}") for number, given in enumerate(order.prompts)]
        written = 0
        for number, prompt in enumerate(prompts):
            generator = torch.Generator(self._model.device)
            generator.seed() if order.seed is None else generator.manual_seed(order.seed)
            for piece, tokens in self._write(order, prompt, number * order.texts, generator, is_wanted):
                written += tokens
                if not is_wanted():
                    return
                if piece is not None:
                    say(piece)
        say(Done(order=order.order, prompt_tokens=sum(len(one.ids) for one in prompts), written_tokens=written))

    def _prompt(self, given: str | tuple[int, ...], where: str) -> _Prompt:
        if isinstance(given, str):
            prompt = _Prompt(self._vocabulary.encode(given), given, num_silent=1)
        elif given:
            wrong = next((each for each in given if not 0 <= each < self._vocabulary.size), None)
            if wrong is not None:
                raise InvalidInput(f"the model has no token {wrong}", where=where)
            prompt = _Prompt(list(given), self._vocabulary.decode(given), num_silent=0)
        else:
            prompt = _Prompt([self._vocabulary.start_id], "", num_silent=1)
        if len(prompt.ids) > self.context_tokens:
            raise InvalidInput(
                f"has {len(prompt.ids):,} tokens, and the model's context {self.context_tokens:,}",
                where=where,
                cure="Give less of it.",
            )
        return prompt

    def _write(
        self, order: Write, prompt: _Prompt, first_row: int, generator: torch.Generator, is_wanted: Callable[[], bool]
    ) -> Iterator[tuple[Piece | None, int]]:
        """Pieces of the texts of one prompt, each with the tokens that it took."""
        from steep.model.cache import GrowingCache
        from steep.model.continuations import Choice, write_rows
        from steep.worker.completions_text import Row

        memory = GrowingCache()
        scores, logits = self._read(order, prompt, memory, is_wanted)
        if logits is None:
            return
        rows = [Row(self._vocabulary, prompt.ids, order.stop, order.top is not None) for _ in range(order.texts)]
        if order.echo:
            for number in range(order.texts):
                yield Piece(order=order.order, row=first_row + number, text=prompt.text, scores=scores), 0
        most = min(order.max_tokens, self.context_tokens + 1 - len(prompt.ids))
        steps = write_rows(
            self._model, self._vocabulary, logits, memory, rows=order.texts, max_tokens=most,
            choice=Choice(order.temperature, order.top_p, generator), top=order.top,
            goes_on=lambda row: rows[row].finish is None and is_wanted(),
        )  # fmt: skip
        for tokens in steps:
            for token in tokens:
                yield _piece(order, first_row + token.row, rows[token.row], *rows[token.row].add(token)), 1
        for number, row in enumerate(rows):
            if row.finish is None:
                yield _piece(order, first_row + number, row, *row.end("length")), 0

    def _read(
        self, order: Write, prompt: _Prompt, memory: GrowingCache, is_wanted: Callable[[], bool]
    ) -> tuple[tuple[TokenScore, ...], Tensor | None]:
        """Read a prompt. Returns the scores of its tokens, where they were asked for, and the logits of what follows it."""
        from steep.model.continuations import read_prompt, score_ids
        from steep.worker.completions_text import Reading, scored

        reading = Reading(self._vocabulary, prompt.ids[: prompt.num_silent])
        scores: list[TokenScore] = []
        if order.echo and order.top is not None and not prompt.num_silent:
            scores.append(TokenScore(text=reading.add(prompt.ids[0]), logprob=None, top=None))
        last, read = None, 0
        for logits in read_prompt(self._model, self._vocabulary, prompt.ids, memory):
            if not is_wanted():
                return (), None
            if order.echo and order.top is not None:
                following = prompt.ids[read + 1 : read + 1 + len(logits)]
                tokens = score_ids(logits[: len(following)], following, order.top)
                scores += [scored(reading, token) for token in tokens]
            last, read = logits[-1], read + len(logits)
        return tuple(scores), last


def _piece(order: Write, number: int, row: Row, text: str, scores: tuple[TokenScore, ...]) -> Piece | None:
    """What is new of a row, if anything is."""
    if not text and not scores and row.finish is None:
        return None
    return Piece(order=order.order, row=number, text=text, scores=scores, finish=row.finish)
