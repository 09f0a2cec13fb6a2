"""What a job puts out: logs, reports, results, charts, samples of its machine, its export."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import PlainTextResponse, Response

from steep.server.auth import Here, Viewer
from steep.server.filelists import export_file, export_files
from steep.server.promises import PromisingRoute
from steep.server.routes.answers import BYTES, TEXT, After, PageSize, Paging, answer, file_answer, problems
from steep.server.routes.jobs import Job, seen
from steep.server.runreports import read_reports
from steep.spec.api.attempts import DeviceSample
from steep.spec.api.common import Page
from steep.spec.api.files import NEXT_OFFSET_HEADER, StoredFile
from steep.spec.errors import NotFound
from steep.spec.reports import Report
from steep.spec.results import Results

router = APIRouter(prefix="/jobs/{job}", tags=["outputs"], route_class=PromisingRoute)

Kind = Literal["stage", "progress", "step", "evaluation", "checkpoint", "notice"]
_PICTURES = {".png": "image/png", ".svg": "image/svg+xml"}


@router.get(
    "/logs", summary="What workers printed", response_class=PlainTextResponse, responses={**TEXT, **problems(404)}
)
def logs(
    here: Here,
    caller: Viewer,
    job: Job,
    stream: Annotated[Literal["stdout", "stderr", "log"], Query(description="Which of the streams.")] = "stdout",
    offset: Annotated[int, Query(ge=0, le=2**62, description="Bytes of the stream to pass over.")] = 0,
) -> Response:
    """About a megabyte at most; the header X-Next-Offset says where to read on. Secrets are taken out."""
    seen(here, caller, job)
    text = here.store.logs.read(job, stream, offset)
    return PlainTextResponse(text.text, headers={NEXT_OFFSET_HEADER: str(text.next_offset)})


@router.get("/reports", summary="What workers reported", response_model=Page[Report], responses=problems(404))
def reports(
    here: Here, caller: Viewer, job: Job, after: After = None, page_size: PageSize = 50,
    kind: Annotated[Kind | None, Query(description="Of this kind only.")] = None,
) -> Response:  # fmt: skip
    """From the one after a sequence number on."""
    seen(here, caller, job)
    found = read_reports(here.run(job).reports_file, -1 if after is None else after, kind, page_size + 1)
    return answer(Page(items=tuple(found[:page_size]), page_size=page_size, has_more=len(found) > page_size))


@router.get("/results", summary="What was measured", response_model=Results, responses=problems(404, 409))
def results(here: Here, caller: Viewer, job: Job) -> Response:
    """The base, each checkpoint, and which was selected and why."""
    seen(here, caller, job)
    found = here.run(job).results()
    if found is None:
        raise NotFound("nothing was measured yet", where=job, cure="Wait until the first evaluation.")
    return answer(found)


@router.get("/charts/{name}", summary="A chart", response_class=Response, responses={**BYTES, **problems(404)})
def chart(
    here: Here, caller: Viewer, job: Job, name: Annotated[str, Path(pattern=r"^[\w-]+\.(png|svg)$", max_length=100)]
) -> Response:
    """Such as `loss.svg`."""
    seen(here, caller, job)
    path = here.run(job).charts / name
    if not path.is_file():
        raise NotFound(f"there is no chart {name}", where=job)
    return Response(path.read_bytes(), media_type=_PICTURES[path.suffix])


@router.get(
    "/metrics", summary="What the workers' machines did", response_model=Page[DeviceSample], responses=problems(404)
)
def metrics(here: Here, caller: Viewer, job: Job, page: Paging) -> Response:
    """Processor, memory, disk and GPUs, the latest first."""
    seen(here, caller, job)
    return answer(here.store.samples.list(job, page))


@router.get(
    "/export/files", summary="Files of the exported model", response_model=Page[StoredFile], responses=problems(404)
)
def export_list(here: Here, caller: Viewer, job: Job, page: Paging) -> Response:
    """In Hugging Face layout, ready for use."""
    seen(here, caller, job)
    return answer(_page_of(export_files(here.run(job)), page.page, page.page_size))


@router.get(
    "/export/files/{path:path}", summary="Download a file of the exported model", response_class=Response,
    responses={**BYTES, **problems(404, 416)},
)  # fmt: skip
def export_content(here: Here, caller: Viewer, job: Job, path: Annotated[str, Path(max_length=1000)]) -> Response:
    """The header Range gives a part of it, so that a download can go on."""
    seen(here, caller, job)
    found = export_file(here.run(job), path)
    return file_answer(found, found.name)


def _page_of(files: list[StoredFile], page: int, page_size: int) -> Page[StoredFile]:
    rest = files[(page - 1) * page_size :]
    return Page(items=tuple(rest[:page_size]), page=page, page_size=page_size, has_more=len(rest) > page_size)
