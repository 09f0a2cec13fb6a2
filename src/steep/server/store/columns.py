"""Kinds of columns that hold the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import Dialect, Float, Text
from sqlalchemy.types import TypeDecorator

_NOT_A_CHARACTER = "\N{REPLACEMENT CHARACTER}"


def clean(text: str) -> str:
    """Text that any database keeps: PostgreSQL knows no NUL, and half a surrogate pair is no UTF-8."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", _NOT_A_CHARACTER).encode("utf-8", "replace").decode("utf-8")


class Words(TypeDecorator[str]):
    """Text that people or programs wrote; what no database keeps is replaced."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """See `clean`."""
        return None if value is None else clean(value)


class Real(TypeDecorator[float]):
    """A number of fifteen digits: a time is right to a hundred-thousandth of a second.

    So many has the text that SQLite makes of one, see `atonce.py`; so it is the same number however it is read.
    """

    impl = Float
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """The nearest number that has no more digits."""
        return None if value is None else float(f"{value:.15g}")


class Json(TypeDecorator[Any]):
    """JSON as text. Numbers that are none become strings, as everywhere in `spec/`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """A value's text. `\\u0000` may stand in it: that is six letters."""
        return None if value is None else to_json(value, inf_nan_mode="strings").decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """The value of a text."""
        return None if value is None else from_json(value)
