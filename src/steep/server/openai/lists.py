"""Lists by cursor: what comes after the last item that the client has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar

from fastapi import Header, Query
from pydantic import AfterValidator

from steep.server.openai.shapes import CheckpointObject, FileObject, JobEvent, JobObject, ListAnswer, ModelObject
from steep.server.store.paging import MAX_PAGE_SIZE

Item = TypeVar("Item", FileObject, JobObject, JobEvent, CheckpointObject, ModelObject)

After = Annotated[str | None, Query(max_length=200, description="Id of the last item that is known.")]
Limit = Annotated[
    int,
    Query(ge=1, description=f"Items at most; {MAX_PAGE_SIZE} are the most that one answer has."),
    AfterValidator(
        lambda asked: min(asked, MAX_PAGE_SIZE)
    ),  # OpenAI allows for more in some lists: more come after these
]
ProjectHeader = Annotated[
    str | None, Header(alias="OpenAI-Project", max_length=100, description="A project; by default the key's.")
]


def list_of(items: Iterable[Item], *, has_more: bool) -> ListAnswer[Item]:
    """A part of a list.

    Args:
        items: what it shows; each has an `id`.
        has_more: whether others come behind them.
    """
    data = tuple(items)
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return ListAnswer(data=data, first_id=first, last_id=last, has_more=has_more)


def metadata_of(query: Mapping[str, str]) -> tuple[str, ...]:
    """The tags of jobs that have what a query asks for as `metadata[key]=value`."""
    asked = [(name, value) for name, value in query.items() if name.startswith("metadata[") and name.endswith("]")]
    return tuple(f"{name[len('metadata[') : -1]}={value}" for name, value in asked)
