"""Quantities as people write them: `300M tokens`, `10 min`, `1%`, `4 GB`.

Each parser takes what YAML gives (a string or a number) and returns a plain number in the unit that its name says.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer

_NUMBER = re.compile(r"^\s*([0-9][0-9_,]*\.?[0-9]*(?:e[+-]?[0-9]+)?)\s*([a-zA-Z%]*)\s*([a-zA-Z]*)\s*$", re.IGNORECASE)
_SCALES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_BYTES = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_SECONDS = {
    "s": 1, "sec": 1, "second": 1, "seconds": 1, "min": 60, "mins": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hour": 3600, "hours": 3600, "d": 86400, "day": 86400, "days": 86400,
}  # fmt: skip

BudgetUnit = Literal["epochs", "tokens", "steps", "seconds"]


def _split(text: str, example: str) -> tuple[float, str, str]:
    match = _NUMBER.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity; write it like {example}")
    number, first, second = match.groups()
    amount = float(number.replace("_", "").replace(",", ""))
    if not math.isfinite(amount):
        raise ValueError(f"{text!r} is more than can be counted; write it like {example}")
    return amount, first, second


def _finite(number: float, example: str) -> float:
    """JSON and YAML know infinity, what is no number at all, and numbers of a thousand digits; nothing here can be those."""
    if not -sys.float_info.max <= number <= sys.float_info.max:
        raise ValueError(f"{number!r} is more than can be counted; write it like {example}")
    return number


def parse_tokens(value: Any) -> int:
    """A number of tokens: `262144`, `300M`, `1.5B tokens`."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a number of tokens; write it like 300M")
    if isinstance(value, int | float):
        return int(_finite(value, "300M"))
    number, first, second = _split(value, "300M or '300M tokens'")
    scale, noun = (first, second) if first.lower() in _SCALES else ("", first)
    if noun.lower() not in ("", "token", "tokens") or (noun != second and second):
        raise ValueError(f"{value!r} is not a number of tokens; write it like '300M tokens'")
    return round(number * _SCALES[scale.lower()])


def parse_share(value: Any) -> float:
    """A share between 0 and 1: `1%`, `0.01`."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a share; write it like 10%")
    if isinstance(value, str):
        number, first, second = _split(value, "10%")
        if second or first not in ("", "%"):
            raise ValueError(f"{value!r} is not a share; write it like 10%")
        share = number / 100 if first == "%" else number
    else:
        share = float(_finite(value, "10%"))
    if not 0 <= share <= 1:
        raise ValueError(f"{value!r} is not between 0% and 100%")
    return share


def parse_seconds(value: Any) -> float:
    """A duration in seconds: `90`, `10 min`, `2 h`."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a duration; write it like '10 min'")
    if isinstance(value, int | float):
        return float(_finite(value, "'10 min'"))
    number, first, second = _split(value, "'10 min'")
    if second or (first and first.lower() not in _SECONDS):
        raise ValueError(f"{value!r} is not a duration; write it like '10 min', '2 h' or '30 s'")
    return number * _SECONDS.get(first.lower(), 1)


def parse_bytes(value: Any) -> int:
    """A number of bytes: `1000000`, `4 GB`, `512MiB`."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a size; write it like '4 GB'")
    if isinstance(value, int | float):
        return int(_finite(value, "'4 GB'"))
    number, first, second = _split(value, "'4 GB'")
    if second or first.lower() not in _BYTES:
        raise ValueError(f"{value!r} is not a size; write it like '4 GB' or '512 MiB'")
    return round(number * _BYTES[first.lower()])


def parse_budget(value: Any) -> tuple[float, BudgetUnit]:
    """How long to train: `2 epochs`, `300M tokens`, `500 steps`, `2 h`. Returns the amount, above zero, and its unit."""
    amount, unit = _amount_and_unit(value)
    if amount <= 0:
        raise ValueError(f"{value!r} is nothing at all; write '2 epochs', '300M tokens', '500 steps' or '2 h'")
    return amount, unit


def _amount_and_unit(value: Any) -> tuple[float, BudgetUnit]:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} has no unit; write '2 epochs', '300M tokens', '500 steps' or '2 h'")
    number, first, second = _split(value, "'2 epochs', '300M tokens', '500 steps' or '2 h'")
    words = [word.lower() for word in (first, second) if word]
    if words in (["epoch"], ["epochs"]):
        return number, "epochs"
    if words in (["step"], ["steps"]):
        return number, "steps"
    if words and words[-1] in ("token", "tokens"):
        return float(parse_tokens(value)), "tokens"
    if len(words) == 1 and words[0] in _SECONDS:
        return parse_seconds(value), "seconds"
    if first == "m" and not second:
        raise ValueError(f"{value!r} may be minutes or millions; write '10 min' or '10M tokens'")
    if len(words) == 1 and words[0] in _SCALES and words[0] not in _SECONDS:
        return float(parse_tokens(value)), "tokens"
    raise ValueError(f"{value!r} is not a budget; write '2 epochs', '300M tokens', '500 steps' or '2 h'")


def parse_interval(value: Any) -> tuple[float, BudgetUnit]:
    """How often: like a budget, but a bare number counts steps."""
    amount: float
    unit: BudgetUnit
    if isinstance(value, int) and not isinstance(value, bool):
        amount, unit = _finite(value, "'500 steps'"), "steps"
    else:
        amount, unit = _amount_and_unit(value)
    if amount <= 0:
        raise ValueError(f"{value!r} is never; write '10 min' or '500 steps', or leave it out for the default")
    return float(amount), unit


def format_tokens(tokens: float) -> str:
    """`262144` -> `262k`, for people."""
    for scale, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if abs(tokens) >= scale:
            return f"{tokens / scale:.3g}{letter}"
    return f"{tokens:.0f}"


def format_bytes(size: float) -> str:
    """`1234567` -> `1.23 MB`, for people."""
    for scale, letter in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if abs(size) >= scale:
            return f"{size / scale:.3g} {letter}"
    return f"{size:.0f} B"


def format_seconds(seconds: float) -> str:
    """`3725` -> `1 h 02 min`, for people."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _format_budget(value: tuple[float, BudgetUnit]) -> str:
    amount, unit = value
    return f"{amount:g} s" if unit == "seconds" else f"{amount:.15g} {unit}"


def _budget(value: Any) -> tuple[float, BudgetUnit]:
    return value if isinstance(value, tuple) else parse_budget(value)


def _interval(value: Any) -> tuple[float, BudgetUnit]:
    return value if isinstance(value, tuple) else parse_interval(value)


Tokens = Annotated[int, BeforeValidator(parse_tokens, json_schema_input_type=int | str)]
Share = Annotated[float, BeforeValidator(parse_share, json_schema_input_type=float | str)]
Seconds = Annotated[float, BeforeValidator(parse_seconds, json_schema_input_type=float | str)]
Bytes = Annotated[int, BeforeValidator(parse_bytes, json_schema_input_type=int | str)]
Budget = Annotated[
    tuple[float, BudgetUnit],
    BeforeValidator(_budget, json_schema_input_type=str),
    PlainSerializer(_format_budget, return_type=str),
]
Interval = Annotated[
    tuple[float, BudgetUnit],
    BeforeValidator(_interval, json_schema_input_type=int | str),
    PlainSerializer(_format_budget, return_type=str),
]
