"""Which field of a record holds its text: the one that was named, or else the one that is clearly it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from steep.corpus.formats.content import Fields, Lost, Text, Unreadable
from steep.corpus.formats.encoding import mend_surrogates
from steep.spec.errors import InvalidCorpus

# what people call the field with the text, the likeliest first
TEXT_NAMES = ("text", "content", "body", "raw_content", "page_content", "article", "document", "markdown", "passage")
LONG_CHARACTERS = 100  # mean length from which a field is taken for text rather than a label
SAMPLE_RECORDS = 100
_SAMPLE_BYTES = 8 << 20
_DEPTH = 4
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Record:
    """One record: a mapping of fields, or the text itself. `mark` says which; `size_bytes` is what it takes in the file."""

    value: Any
    mark: int
    size_bytes: int


def texts_of(records: Iterable[Record | Lost], fields: Fields, where: str) -> Iterator[Text | Lost]:
    """The text of each record. The field is settled on the first records; no more than these are held.

    Raises:
        InvalidCorpus: no field is clearly the text, or the named one is not there, and `fields.strict`.
        Unreadable: the same, and not `fields.strict`.
    """
    rest = iter(records)
    first = list(_sample(rest))
    maps = [one.value for one in first if isinstance(one, Record) and isinstance(one.value, Mapping)]
    name = choose_field(maps, fields, where) if maps else fields.text_field
    for one in chain(first, rest):
        yield one if isinstance(one, Lost) else _text_of(one, name)


def choose_field(sample: Sequence[Mapping[str, Any]], fields: Fields, where: str) -> str:
    """The name of the field that holds the text, with dots where it is nested. Raises as `texts_of`."""
    named = fields.text_field
    if named is not None:
        if any(look_up(record, named) is not _MISSING for record in sample):
            return named
        raise _unclear(sample, fields, where)
    for name in TEXT_NAMES:
        if any(_is_text(record.get(name)) for record in sample):
            return name
    lengths = _mean_lengths(sample)
    long = [name for name, length in lengths.items() if length >= LONG_CHARACTERS]
    if len(long) == 1:
        return long[0]
    raise _unclear(sample, fields, where)


def look_up(record: Mapping[str, Any], name: str) -> Any:
    """The value of a field, which may be nested (`meta.text`); a key that has dots itself comes first."""
    if name in record:
        return record[name]
    head, dot, rest = name.partition(".")
    inner = record.get(head) if dot else None
    return look_up(inner, rest) if isinstance(inner, Mapping) else _MISSING


def _sample(records: Iterator[Record | Lost]) -> Iterator[Record | Lost]:
    size_bytes = 0
    for number, one in enumerate(records, start=1):
        yield one
        size_bytes += one.size_bytes if isinstance(one, Record) else 0
        if number >= SAMPLE_RECORDS or size_bytes >= _SAMPLE_BYTES:
            return


def _text_of(record: Record, name: str | None) -> Text | Lost:
    value = record.value
    if isinstance(value, Mapping) and name is not None:
        value = look_up(value, name)
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        value = "\n\n".join(value)
    if isinstance(value, str):
        if value.strip():
            return Text(mend_surrogates(value), record.mark)
        return Lost("empty", f"the field {name!r} is empty" if name else "is empty", len(value), record.mark)
    if value is None:
        return Lost("empty", f"the field {name!r} is null" if name else "is null", 0, record.mark)
    what = "is not there" if value is _MISSING else f"holds no text but {type(value).__name__}"
    return Lost("no_text_field", f"the field {name!r} {what}", record.size_bytes, record.mark)


def _is_text(value: Any) -> bool:
    return (isinstance(value, str) and bool(value)) or (
        isinstance(value, list) and bool(value) and all(isinstance(part, str) for part in value)
    )


def _flat(record: Mapping[str, Any], prefix: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Every field with its dotted name, mappings opened."""
    for name, value in record.items():
        if isinstance(value, Mapping) and value and depth < _DEPTH:
            yield from _flat(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}", value


def _mean_lengths(sample: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Characters of each field that holds strings, as a mean over the records that have it."""
    totals: dict[str, list[int]] = {}
    for record in sample:
        for name, value in _flat(record):
            if isinstance(value, str):
                totals.setdefault(name, []).append(len(value))
    return {name: sum(lengths) / len(lengths) for name, lengths in totals.items()}


def _unclear(sample: Sequence[Mapping[str, Any]], fields: Fields, where: str) -> InvalidCorpus | Unreadable:
    there = list(dict.fromkeys(name for record in sample for name, _ in _flat(record)))
    listed = ", ".join(there[:40]) + (", ..." if len(there) > 40 else "")
    if fields.text_field is None:
        what = f"no field is clearly the text; there are: {listed}"
        cure = "Set `text_field` of the source to the one that holds the text."
    else:
        close = difflib.get_close_matches(fields.text_field, there, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        what = f"there is no field {fields.text_field!r}{hint} There are: {listed}".replace("' There", "'; there")
        cure = "Set `text_field` of the source to the one that holds the text."
    return InvalidCorpus(what, where=where, cure=cure) if fields.strict else Unreadable("no_text_field", what)
