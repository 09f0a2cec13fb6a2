"""Requests and answers as plain data. What sends them, and what is done when that fails, stands elsewhere."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from steep.spec.errors import InvalidInput
from steep.spec.wording import words_of

BASE = "/api/v1"
JSON = "application/json"

Plain = str | int | float | bool
Value = Plain | Sequence[Plain] | None
Model = TypeVar("Model", bound=BaseModel)
Content = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Args:
        method: of HTTP.
        path: below `/api/v1`; made by `at`, so that names in it are quoted.
        query: parameters; those that are None are left out, and those with several values are given several times.
        headers: beside those of every request.
        body: bytes, or what makes them anew, piece by piece, each time that the request is sent.
        repeatable: sending it twice does the same as once, so that it may be sent again when its answer was lost.
    """

    method: str
    path: str
    query: Mapping[str, Value] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Content | None = None
    repeatable: bool = True

    @property
    def parameters(self) -> dict[str, list[str]]:
        """The query as it is sent: by name, all values."""
        return {name: _plain(value) for name, value in self.query.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Trouble(Exception):
    """A request to which there is no answer.

    Args:
        why: a sentence without a full stop.
        reached: the server may have seen it, and may have done what it asks for.
    """

    def __init__(self, why: str, *, reached: bool) -> None:
        self.why = why
        self.reached = reached
        super().__init__(why)


def at(*parts: str | int) -> str:
    """The path of these parts; each is quoted, so that no name can lead elsewhere.

    Raises:
        InvalidInput: a part is empty, or `.` or `..`, which no quoting helps against.
    """
    for part in parts:
        if part in ("", ".", ".."):
            raise InvalidInput(f"{part!r} is not the id or the name of anything", cure="Give one that `list` shows.")
    return "".join(f"/{quote(str(part), safe='')}" for part in parts)


def body_of(model: type[Model], /, **values: Any) -> Model:
    """What a request carries, from what the user gave.

    Raises:
        InvalidInput: a value is none that the server would take.
    """
    try:
        return model(**values)
    except ValidationError as error:
        issues = error.errors(include_url=False)
        fields = [".".join(map(str, issue["loc"])) for issue in issues]
        rest = "".join(f"; {field}: {words_of(issue)}" for field, issue in zip(fields[1:], issues[1:], strict=True))
        # its cause is left out: it holds the values, of which one may be a secret
        raise InvalidInput(words_of(issues[0]) + rest, where=fields[0] or None, cure="Give another value.") from None


def get(path: str, **query: Value) -> Request:
    """A request to read something."""
    return Request("GET", path, query)


def post(path: str, body: BaseModel | None = None, **query: Value) -> Request:
    """A request to do something; doing it twice is doing it once."""
    return Request("POST", path, query, *_json(body))


def create(path: str, body: BaseModel, *, key: str | None = None, **query: Value) -> Request:
    """A request to make something, with a key by which the server knows it again and makes it once."""
    headers, content = _json(body)
    return Request("POST", path, query, {**headers, "Idempotency-Key": key or uuid.uuid4().hex}, content)


def patch(path: str, body: BaseModel) -> Request:
    """A request to change something."""
    return Request("PATCH", path, {}, *_json(body))


def put(path: str, body: BaseModel, **query: Value) -> Request:
    """A request to store something under its name."""
    return Request("PUT", path, query, *_json(body))


def delete(path: str, **query: Value) -> Request:
    """A request to delete something. A second one would find nothing there, so it is not sent unseen."""
    return Request("DELETE", path, query, repeatable=False)


def bearer(token: str) -> dict[str, str]:
    """The header that shows a key or an attempt's token."""
    return {"Authorization": f"Bearer {token}"}


def _json(body: BaseModel | None) -> tuple[dict[str, str], bytes | None]:
    if body is None:
        return {}, None
    return {"Content-Type": JSON}, body.model_dump_json(exclude_unset=True).encode()


def _plain(value: Plain | Sequence[Plain]) -> list[str]:
    values = (value,) if isinstance(value, Plain) else value
    return [str(one).lower() if isinstance(one, bool) else str(one) for one in values]
