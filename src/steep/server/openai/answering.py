"""From a request for completions to the model's order, and from its pieces to the answer: at once, or as a stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from steep.server.openai.errors import as_event
from steep.server.openai.shapes import CompletionAnswer, CompletionChoice, CompletionOrder, Logprobs, Usage
from steep.server.problems import problem_of
from steep.spec.completions import MAX_ROWS, Done, Piece, TokenScore, Write
from steep.spec.errors import InvalidInput, SteepError

MAX_STOPS = 16

Pieces = AsyncGenerator[Piece | Done, None]


def order_of(wanted: CompletionOrder) -> Write:
    """What the model is asked for.

    Raises:
        InvalidInput: the request asks for what is not done here.
    """
    _refuse_unknown(wanted)
    prompts, texts = _prompts(wanted), wanted.n or 1
    if len(prompts) * texts > MAX_ROWS:
        raise InvalidInput(
            f"{len(prompts)} prompts and {texts} texts of each are more than {MAX_ROWS} texts",
            where="n",
            cure="Ask for them in several requests.",
        )
    stop = [wanted.stop] if isinstance(wanted.stop, str) else wanted.stop or []
    if len(stop) > MAX_STOPS:
        raise InvalidInput(f"there are more than {MAX_STOPS}", where="stop", cure="Give fewer.")
    return Write(
        order=0,
        prompts=prompts,
        texts=texts,
        max_tokens=16 if wanted.max_tokens is None else wanted.max_tokens,
        temperature=1.0 if wanted.temperature is None else wanted.temperature,
        top_p=1.0 if wanted.top_p is None else wanted.top_p,
        seed=wanted.seed,
        stop=tuple(each for each in stop if each),
        echo=bool(wanted.echo),
        top=wanted.logprobs,
    )


class Answering:
    """The answer to one request, as the model's pieces come.

    Args:
        wanted: the request.
    """

    def __init__(self, wanted: CompletionOrder) -> None:
        self._id = f"cmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._wanted = wanted
        self._letters: dict[int, int] = {}

    async def whole(self, pieces: Pieces) -> CompletionAnswer:
        """All of it."""
        choices: dict[int, CompletionChoice] = {}
        usage = None
        async for said in pieces:
            if isinstance(said, Done):
                usage = _usage(said)
            else:
                choices[said.row] = _joined(choices.get(said.row), self._choice(said))
        return self._answer([choices[row] for row in sorted(choices)], usage)

    async def stream(self, first: Piece | Done, pieces: Pieces) -> AsyncIterator[bytes]:
        """Server-sent events, piece by piece.

        Args:
            first: the piece that came first: that it came shows that the request is a good one.
            pieces: the others.
        """
        options = self._wanted.stream_options
        try:
            yield self._event(first)
            async for said in pieces:
                if isinstance(said, Piece):
                    yield self._event(said)
                elif options is not None and options.include_usage:
                    yield _line(self._answer([], _usage(said)))
        except SteepError as error:
            yield as_event(problem_of(error))
            return
        yield b"data: [DONE]\n\n"

    def _event(self, said: Piece | Done) -> bytes:
        return _line(self._answer([self._choice(said)] if isinstance(said, Piece) else [], None))

    def _answer(self, choices: Sequence[CompletionChoice], usage: Usage | None) -> CompletionAnswer:
        return CompletionAnswer(
            id=self._id, created=self._created, model=self._wanted.model, choices=tuple(choices), usage=usage
        )

    def _choice(self, piece: Piece) -> CompletionChoice:
        logprobs = None
        if self._wanted.logprobs is not None:
            logprobs = _logprobs(piece.scores, self._letters.get(piece.row, 0))
            self._letters[piece.row] = self._letters.get(piece.row, 0) + sum(len(one.text) for one in piece.scores)
        return CompletionChoice(index=piece.row, text=piece.text, logprobs=logprobs, finish_reason=piece.finish)


def _prompts(wanted: CompletionOrder) -> tuple[str | tuple[int, ...], ...]:
    given = wanted.prompt
    if given is None or given == []:
        return ("",)
    if isinstance(given, str):
        return (given,)
    if all(isinstance(each, int) for each in given):
        return (tuple(each for each in given if isinstance(each, int)),)
    return tuple(each if isinstance(each, str) else tuple(each) for each in given if not isinstance(each, int))


def _refuse_unknown(wanted: CompletionOrder) -> None:
    """What would change the text, and is not done, is said and not passed over."""
    asked = {
        "presence_penalty": bool(wanted.presence_penalty),
        "frequency_penalty": bool(wanted.frequency_penalty),
        "logit_bias": bool(wanted.logit_bias),
        "suffix": bool(wanted.suffix),
        "best_of": wanted.best_of not in (None, wanted.n or 1),
    }
    for name, is_asked in asked.items():
        if is_asked:
            raise InvalidInput(f"{name} is nothing that Steep does", where=name, cure="Leave it out.")


def _usage(done: Done) -> Usage:
    return Usage(
        prompt_tokens=done.prompt_tokens,
        completion_tokens=done.written_tokens,
        total_tokens=done.prompt_tokens + done.written_tokens,
    )


def _logprobs(scores: Sequence[TokenScore], letters: int) -> Logprobs:
    offsets = []
    for score in scores:
        offsets.append(letters)
        letters += len(score.text)
    return Logprobs(
        tokens=[one.text for one in scores],
        token_logprobs=[one.logprob for one in scores],
        top_logprobs=[one.top for one in scores],
        text_offset=offsets,
    )


def _joined(before: CompletionChoice | None, more: CompletionChoice) -> CompletionChoice:
    if before is None:
        return more
    logprobs = more.logprobs
    if before.logprobs is not None and logprobs is not None:
        parts = {name: [*getattr(before.logprobs, name), *getattr(logprobs, name)] for name in Logprobs.model_fields}
        logprobs = Logprobs(**parts)
    return more.model_copy(update={"text": before.text + more.text, "logprobs": logprobs})


def _line(answer: CompletionAnswer) -> bytes:
    return f"data: {answer.model_dump_json()}\n\n".encode()
