"""The service itself: its devices, how it is, its secrets, who did what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from steep.compute.contract import DeviceState
from steep.server.auth import Admin, Here, Member, Viewer
from steep.server.promises import PromisingRoute
from steep.server.routes.answers import Paging, answer, problems
from steep.server.service import Service
from steep.server.store.paging import PageRequest
from steep.server.store.queue import DeviceLease
from steep.spec.api.common import Page
from steep.spec.api.house import AuditEntry, DeviceView, SecretRequest, SecretView, StatusView
from steep.spec.errors import SteepError

router = APIRouter(tags=["service"], route_class=PromisingRoute)

Name = Annotated[str, Path(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$", description="Name of a secret.")]
Project = Annotated[str | None, Query(description="Whose; by default the key's project.")]


@router.get(
    "/devices", summary="GPUs and CPU slots, and who holds them", response_model=Page[DeviceView], responses=problems()
)
def devices(here: Here, caller: Viewer, page: Paging) -> Response:
    """A job of another project is not named."""
    leases = {(lease.backend, lease.device_id): lease for lease in here.store.queue.leases()}
    views = []
    for backend, state in _states(here, []):
        lease = leases.get((backend, state.device.id))
        view = _device_view(backend, state, lease)
        hidden = lease is not None and not caller.sees(lease.project)
        views.append(view.model_copy(update={"job_id": None}) if hidden else view)
    return answer(_page_of(views, page))


@router.get("/status", summary="How the service is", response_model=StatusView, responses=problems())
def status(here: Here, caller: Viewer) -> Response:
    """Jobs by state, devices, and what should be looked after. A key of a project hears of no other's jobs and checkpoints."""
    from steep import __version__

    warnings: list[str] = []
    states = [state for _, state in _states(here, warnings)]
    warnings += [
        f"{state.device.id} is set aside: {state.detail}" for state in states if not state.usable and state.detail
    ]
    if damaged := here.store.checkpoints.num_damaged(caller.projects):
        warnings.append(f"{damaged} checkpoint{'s are' if damaged > 1 else ' is'} damaged; the jobs' events say which")
    return answer(
        StatusView(
            version=__version__,
            started_at=here.started_at,
            jobs={str(state): count for state, count in here.store.queue.counts(caller.projects).items()},
            devices=len(states),
            devices_in_use=here.store.queue.num_leases(),
            devices_unusable=sum(not state.usable for state in states),
            warnings=tuple(warnings),
        )
    )


@router.get("/audit", summary="Who did what", response_model=Page[AuditEntry], responses=problems())
def audit(
    here: Here,
    caller: Admin,
    page: Paging,
    actor: Annotated[str | None, Query(description="By this key.")] = None,
    action: Annotated[str | None, Query(description="Such as `POST /jobs`.")] = None,
    subject: Annotated[str | None, Query(description="To this.")] = None,
) -> Response:
    """The latest first."""
    found = here.store.audit.list(page, actor=actor, action=action, subject=subject, projects=caller.projects)
    return answer(found)


@router.get("/secrets", summary="List secrets", response_model=Page[SecretView], responses=problems())
def list_secrets(here: Here, caller: Viewer, page: Paging, project: Project = None) -> Response:
    """Their names; no value is ever answered."""
    wanted = caller.project if project is None else caller.chosen(project)
    return answer(_page_of(list(here.store.secrets.list(wanted)), page))


@router.get(
    "/secrets/{name}", summary="A secret, without its value", response_model=SecretView, responses=problems(404)
)
def show_secret(here: Here, caller: Viewer, name: Name, project: Project = None) -> Response:
    """When it was stored."""
    return answer(_secret(here, caller.chosen(project), name))


@router.put("/secrets/{name}", summary="Store a secret", response_model=SecretView, responses=problems())
def put_secret(here: Here, caller: Member, name: Name, request: SecretRequest, project: Project = None) -> Response:
    """In place of an earlier one of that name. HF_TOKEN, AWS_... and a few more become variables of the project's workers."""
    owner = caller.chosen(project)
    here.store.secrets.put(owner, name, here.box.lock(request.value), here.now())
    return answer(_secret(here, owner, name))


@router.delete(
    "/secrets/{name}", summary="Forget a secret", status_code=204, response_class=Response, responses=problems(404)
)
def delete_secret(here: Here, caller: Member, name: Name, project: Project = None) -> Response:
    """Workers that run keep what they got."""
    here.store.secrets.delete(caller.chosen(project), name, here.now())
    return Response(status_code=204)


def _secret(here: Service, project: str, name: str) -> SecretView:
    here.store.secrets.get(project, name)
    return next(view for view in here.store.secrets.list(project) if view.name == name)


def _states(here: Service, warnings: list[str]) -> Iterator[tuple[str, DeviceState]]:
    for name, backend in here.backends.items():
        try:
            for state in backend.capacity().devices:
                yield name, state
        except SteepError as error:
            warnings.append(f"the devices of {name} cannot be read: {error}")


def _device_view(backend: str, state: DeviceState, lease: DeviceLease | None) -> DeviceView:
    device = state.device
    return DeviceView(
        id=device.id,
        backend=backend,
        kind=device.kind,
        model=device.model,
        memory_bytes=device.memory_bytes,
        memory_used_bytes=state.memory_used_bytes,
        location=device.location,
        healthy=state.usable,
        detail=state.detail or ("lent" if lease is not None else ""),
        job_id=None if lease is None else lease.job_id,
        held_since=None if lease is None else lease.since,
        expected_free_at=None if lease is None else lease.expected_end,
    )


def _page_of(items: list[DeviceView] | list[SecretView], page: PageRequest) -> Page[DeviceView | SecretView]:
    begin = (page.page - 1) * page.page_size
    rest = items[begin:]
    total = len(items) if page.include_total else None
    return Page(
        items=tuple(rest[: page.page_size]), page=page.page, page_size=page.page_size,
        has_more=len(rest) > page.page_size, total=total,
    )  # fmt: skip
