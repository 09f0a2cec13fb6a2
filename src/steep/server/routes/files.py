"""Uploaded files, for jobs to read as `steep://files/ID`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from steep.server.auth import Caller, Here, Member, Viewer
from steep.server.promises import PromisingRoute
from steep.server.routes.answers import BYTES, Paging, answer, file_answer, problems
from steep.server.routes.repeats import RepeatKey, repeat_of
from steep.server.service import Service
from steep.server.uploads import receive, remove_file
from steep.spec.api.checkpoints import Freed
from steep.spec.api.common import Page
from steep.spec.api.files import FileView

router = APIRouter(prefix="/files", tags=["files"], route_class=PromisingRoute)

File = Annotated[str, Path(description="Id of a file.", max_length=100)]
_BINARY = {
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    "required": True,
}


@router.post(
    "", summary="Upload a file", response_model=FileView, status_code=201, openapi_extra={"requestBody": _BINARY},
    responses=problems(409, 413, 507),
)  # fmt: skip
async def upload(
    here: Here,
    caller: Member,
    request: Request,
    name: Annotated[str, Query(max_length=1000, description="A plain name; its ending tells the format.")],
    project: Annotated[str | None, Query(description="Whose file it is; by default the key's project.")] = None,
    blake3: Annotated[str | None, Query(pattern="^[0-9a-fA-F]{64}$", description="What its hash must be.")] = None,
    idempotency_key: RepeatKey = None,
) -> Response:
    """The body is the file itself. It is hashed on the way, and is there only when all of it is."""
    owner = caller.chosen(project)
    once = repeat_of(idempotency_key, "", caller, "files")
    view = await receive(
        here, request.stream(), name=name, project=owner, blake3_hex=blake3, created_by=caller.key.id, once=once
    )
    return answer(view, 201)


@router.get("", summary="List files", response_model=Page[FileView], responses=problems())
def list_files(
    here: Here,
    caller: Viewer,
    page: Paging,
    project: Annotated[str | None, Query(description="Of this project.")] = None,
    name: Annotated[str | None, Query(description="With this in their name.")] = None,
) -> Response:
    """The newest first."""
    return answer(here.store.files.list(page, of_projects=caller.projects_within(project), name=name))


@router.get("/{file}", summary="A file", response_model=FileView, responses=problems(404))
def show(here: Here, caller: Viewer, file: File) -> Response:
    """What it is and whose."""
    return answer(seen_file(here, caller, file))


@router.get(
    "/{file}/content", summary="Download a file", response_class=Response, responses={**BYTES, **problems(404, 416)}
)
def content(here: Here, caller: Viewer, file: File) -> Response:
    """The header Range gives a part of it, so that a download can go on."""
    view = seen_file(here, caller, file)
    return file_answer(here.settings.file_directory(view.id) / view.name, view.name)


@router.delete("/{file}", summary="Delete a file", response_model=Freed, responses=problems(404))
def delete(here: Here, caller: Member, file: File) -> Response:
    """Jobs that have begun keep what they prepared of it."""
    return answer(remove_file(here, seen_file(here, caller, file).id))


def seen_file(here: Service, caller: Caller, file: str) -> FileView:
    """A file that the key sees.

    Raises:
        NotFound: there is none, or it is another project's: nobody learns which.
    """
    view = here.store.files.get(file)
    caller.must_see(view.project, f"file {file}")
    return view
