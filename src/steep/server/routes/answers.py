"""What routes have in common: pages, answers, files, and the problems that each may tell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel

from steep.server.store.paging import MAX_PAGE_SIZE, PageRequest
from steep.spec.api.common import Problem
from steep.spec.errors import NotFound

JSON = "application/json"

_PROBLEM = {
    "model": Problem,
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


Documented = dict[int | str, dict[str, Any]]

BYTES: Documented = {200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}
TEXT: Documented = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


WORDS = {
    401: "No key, or one that opens nothing.",
    403: "The key may not do this.",
    404: "There is no such thing, or not for this key.",
    409: "It does not fit how things stand.",
    413: "The request is too large.",
    416: "That is beyond the end of the file.",
    422: "Something in the request is not valid; the problem names the field.",
    429: "Too many requests; wait a moment.",
    503: "The database does not answer now; try again.",
    507: "There is no room left.",
}


def problems(*statuses: int) -> Documented:
    """What the OpenAPI document says of what may go wrong; every route needs a key and may be asked too often."""
    return {
        status: {"description": WORDS[status], **_PROBLEM} for status in sorted({401, 403, 422, 429, 503, *statuses})
    }


def answer(model: BaseModel, status: int = 200) -> Response:
    """A model as it goes over the wire: numbers that are none as words."""
    return Response(model.model_dump_json(), status_code=status, media_type=JSON)


async def _page(
    page: Annotated[int, Query(ge=1, le=1_000_000, description="From 1.")] = 1,
    page_size: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE, description="Items of a page.")] = 50,
    sort_by: Annotated[str | None, Query(max_length=50, description="Name of a field.")] = None,
    sort_order: Annotated[
        Literal["asc", "desc"] | None, Query(description="As is usual for the field by default.")
    ] = None,
    include_total: Annotated[bool, Query(description="Count all items too.")] = False,
) -> PageRequest:
    descending = None if sort_order is None else sort_order == "desc"
    return PageRequest(page, page_size, sort_by, descending, include_total)


Paging = Annotated[PageRequest, Depends(_page)]
After = Annotated[int | None, Query(ge=0, le=2**62, description="Number of the last one that is known.")]
PageSize = Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE, description="Items of a page.")]


def file_answer(path: Path, name: str) -> Response:
    """A file's bytes, or the part of them that the header Range asks for.

    Raises:
        NotFound: it is not there.
    """
    if not path.is_file():
        raise NotFound(f"there is no {name}")
    return FileResponse(
        path, media_type="application/octet-stream", filename=name, content_disposition_type="attachment"
    )
