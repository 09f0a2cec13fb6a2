"""What the server and the process that holds a model say to each other: JSON objects, one a line.

server -> model:   Write, Forget
model -> server:   Ready, then for each order Piece after Piece and Done, or Refused; Refused with no order: it does not load
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

MAX_ROWS = 64
"""Rows of one order at most: prompts times texts of each."""

MAX_TOP = 5
"""Likeliest tokens that are told of each at most."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


# --------------------------------------------------------------------------------------------------------- to the model


class Write(_Message):
    """Go on from prompts.

    Args:
        order: its number, for what is said about it.
        prompts: each a text, which begins a document, or ids of tokens as they are.
        texts: how many are written for each prompt.
        max_tokens: of each text; a document's end or the context's comes sooner.
        temperature: 0 always takes the likeliest token.
        top_p: tokens are drawn from the likeliest ones that have this much of the probability together.
        seed: the same one gives the same texts.
        stop: a text ends before the first of these.
        echo: say the prompt too.
        top: say how likely each token was, and that many of the likeliest ones; None says neither.
    """

    kind: Literal["write"] = "write"
    order: int
    prompts: tuple[str | tuple[int, ...], ...] = Field(min_length=1)
    texts: int = 1
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    echo: bool = False
    top: int | None = None


class Forget(_Message):
    """Nobody waits for an order any more."""

    kind: Literal["forget"] = "forget"
    order: int


Told = Annotated[Write | Forget, Field(discriminator="kind")]
TOLD: TypeAdapter[Told] = TypeAdapter(Told)


# ------------------------------------------------------------------------------------------------------- from the model


class Ready(_Message):
    """The model is in memory."""

    kind: Literal["ready"] = "ready"
    context_tokens: int


class TokenScore(_Message):
    """A token of a text, and how likely the model itself held it, in nats; None of the first of a context.

    Args:
        text: what the token adds.
        logprob: its own.
        top: of the likeliest ones, by what they would have added.
    """

    text: str
    logprob: float | None
    top: dict[str, float] | None


class Piece(_Message):
    """A text goes on, or ends.

    Args:
        order: the order's number.
        row: the text's, counted over all prompts.
        text: what comes next.
        scores: of its tokens, where they were asked for.
        finish: why nothing follows: a document's end or one of `stop`, or no more tokens.
    """

    kind: Literal["piece"] = "piece"
    order: int
    row: int
    text: str
    scores: tuple[TokenScore, ...] = ()
    finish: Literal["stop", "length"] | None = None


class Done(_Message):
    """An order is carried out.

    Args:
        order: its number.
        prompt_tokens: read, each prompt once.
        written_tokens: of all texts, ends of documents included.
    """

    kind: Literal["done"] = "done"
    order: int
    prompt_tokens: int
    written_tokens: int


class Refused(_Message):
    """An order cannot be carried out, or there is no model at all: an error of `spec/errors.py`."""

    kind: Literal["refused"] = "refused"
    order: int | None = None
    code: str
    what: str
    where: str | None = None
    cure: str | None = None


Said = Annotated[Ready | Piece | Done | Refused, Field(discriminator="kind")]
SAID: TypeAdapter[Said] = TypeAdapter(Said)
