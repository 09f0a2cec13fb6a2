"""Uploaded files: the same ones as below `/api/v1/files`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from steep.server.auth import Here, Member, Viewer
from steep.server.openai.errors import errors
from steep.server.openai.lists import After, Limit, ProjectHeader, list_of
from steep.server.openai.multipart import FileForm
from steep.server.openai.shapes import Deleted, FileObject, ListAnswer
from steep.server.promises import PromisingRoute
from steep.server.routes.answers import BYTES, answer, file_answer
from steep.server.routes.files import seen_file
from steep.server.store.paging import MAX_PAGE_SIZE, PageRequest
from steep.server.uploads import receive, remove_file
from steep.spec.api.files import FileView
from steep.spec.errors import InvalidInput

router = APIRouter(prefix="/files", tags=["openai_files"], route_class=PromisingRoute)

PURPOSE = "fine-tune"

File = Annotated[str, Path(description="Id of a file.", max_length=100)]
_FORM = {
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "purpose": {"type": "string", "enum": [PURPOSE]},
                    "file": {"type": "string", "format": "binary", "description": "Its name's ending tells the format."},
                },
            }
        }
    },
    "required": True,
}  # fmt: skip


@router.post(
    "", summary="Upload a file", response_model=FileObject, openapi_extra={"requestBody": _FORM},
    responses=errors(413, 507),
)  # fmt: skip
async def upload(here: Here, caller: Member, request: Request, project: ProjectHeader = None) -> Response:
    """Text in any format that Steep reads, not only JSON lines. It is there only when all of it is."""
    owner = caller.chosen(project)
    form = FileForm(request.headers.get("content-type", ""), request.stream())
    name = await form.find_file()
    _require_known(form.fields, is_whole=False)
    async with contextlib.aclosing(_pieces(form)) as pieces:
        view = await receive(here, pieces, name=name, project=owner, blake3_hex=None, created_by=caller.key.id)
    return answer(_object(view))


@router.get("", summary="List files", response_model=ListAnswer[FileObject], responses=errors())
def list_files(
    here: Here,
    caller: Viewer,
    project: ProjectHeader = None,
    after: After = None,
    limit: Limit = MAX_PAGE_SIZE,
    order: Annotated[Literal["asc", "desc"], Query(description="By when they were uploaded.")] = "desc",
    purpose: Annotated[str | None, Query(description="`fine-tune`; there are no others.")] = None,
) -> Response:
    """The newest first."""
    if purpose not in (None, PURPOSE):
        return answer(ListAnswer[FileObject](data=()))
    page = PageRequest(page_size=limit, sort_by="created_at", descending=order == "desc", after=after)
    found = here.store.files.list(page, of_projects=caller.projects_within(project))
    return answer(list_of(map(_object, found.items), has_more=found.has_more))


@router.get("/{file}", summary="A file", response_model=FileObject, responses=errors(404))
def retrieve(here: Here, caller: Viewer, file: File) -> Response:
    """What it is."""
    return answer(_object(seen_file(here, caller, file)))


@router.get(
    "/{file}/content", summary="Download a file", response_class=Response, responses={**BYTES, **errors(404, 416)}
)
def content(here: Here, caller: Viewer, file: File) -> Response:
    """The header Range gives a part of it, so that a download can go on."""
    view = seen_file(here, caller, file)
    return file_answer(here.settings.file_directory(view.id) / view.name, view.name)


@router.delete("/{file}", summary="Delete a file", response_model=Deleted, responses=errors(404))
def delete(here: Here, caller: Member, file: File) -> Response:
    """Jobs that have begun keep what they prepared of it."""
    remove_file(here, seen_file(here, caller, file).id)
    return answer(Deleted(id=file, object="file"))


async def _pieces(form: FileForm) -> AsyncGenerator[bytes, None]:
    """The file's bytes. They do not come to their end in a form whose other fields are wrong."""
    async with contextlib.aclosing(form.pieces()) as pieces:
        async for piece in pieces:
            yield piece
    _require_known(form.fields, is_whole=True)


def _require_known(fields: dict[str, str], *, is_whole: bool) -> None:
    purpose = fields.get("purpose")
    if purpose != PURPOSE and (is_whole or purpose is not None):
        raise InvalidInput(
            f"{purpose!r} is nothing that files are for here", where="purpose", cure=f"Send purpose={PURPOSE!r}."
        )
    for name in fields.keys() - {"purpose"}:
        raise InvalidInput(
            f"{name} is nothing that Steep knows of files", where=name, cure="Files stay until they are deleted."
        )


def _object(view: FileView) -> FileObject:
    return FileObject(id=view.id, bytes=view.size_bytes, created_at=int(view.created_at), filename=view.name)
