"""API keys. An admin whose key is confined to a project manages that project's keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query
from fastapi.responses import Response

from steep.server.auth import Admin, Caller, Here
from steep.server.promises import PromisingRoute
from steep.server.routes.answers import Paging, answer, problems
from steep.server.routes.repeats import RepeatKey, repeat_of
from steep.server.service import Service
from steep.spec.api.common import Page
from steep.spec.api.keys import KeyChange, KeyRequest, KeyUsage, KeyView, NewKey
from steep.spec.errors import Conflict, Forbidden

router = APIRouter(prefix="/keys", tags=["keys"], route_class=PromisingRoute)

Key = Annotated[str, Path(description="Id of a key.", max_length=100)]
_EXAMPLE = {"name": "laptop of Ada", "role": "member", "project": "default", "expires_in_seconds": 7_776_000}


@router.post("", summary="Make a key", response_model=NewKey, status_code=201, responses=problems(409))
def create(
    here: Here,
    caller: Admin,
    request: Annotated[KeyRequest, Body(openapi_examples={"member": {"value": _EXAMPLE}})],
    idempotency_key: RepeatKey = None,
) -> Response:
    """Its secret is in the answer, and is never shown again; a request whose answer was lost may be sent again within ten
    minutes, under the same Idempotency-Key and by the same key."""
    project = request.project or caller.project
    if not caller.sees(project):
        raise Forbidden(f"this key opens project {caller.project} and no other", where="project")
    wanted = request.model_copy(update={"project": project})
    if idempotency_key is None:
        return answer(here.store.keys.create(wanted, here.now()), 201)
    once = repeat_of(idempotency_key, f"{caller.key.id} {wanted.model_dump_json()}", caller, "keys")
    made = here.store.keys.create(
        wanted, here.now(), once=once, letters=lambda key_id: here.box.derive("key", key_id, idempotency_key)
    )
    return answer(made, 201)


@router.get("", summary="List keys", response_model=Page[KeyView], responses=problems())
def list_keys(here: Here, caller: Admin, page: Paging) -> Response:
    """The newest first, revoked ones too."""
    return answer(here.store.keys.list(page, of_projects=caller.projects))


@router.get("/{key}", summary="A key", response_model=KeyView, responses=problems(404))
def show(here: Here, caller: Admin, key: Key) -> Response:
    """Without its secret."""
    return answer(_seen(here, caller, key))


@router.patch("/{key}", summary="Change a key", response_model=KeyView, responses=problems(404, 409))
def change(here: Here, caller: Admin, key: Key, request: KeyChange) -> Response:
    """Its name or role; what is not given stays."""
    view = _seen(here, caller, key)
    if request.role not in (None, "admin") and view.id == caller.key.id:
        raise Conflict("a key cannot take its own rights away", where=key, cure="Use another admin's key.")
    return answer(here.store.keys.change(key, request, here.now()))


@router.post("/{key}/revoke", summary="Revoke a key", response_model=KeyView, responses=problems(404))
def revoke(here: Here, caller: Admin, key: Key) -> Response:
    """It opens nothing from now on; what was done with it stays on record."""
    _seen(here, caller, key)
    return answer(here.store.keys.revoke(key, here.now()))


@router.get("/{key}/usage", summary="How much a key is used", response_model=KeyUsage, responses=problems(404))
def usage(
    here: Here,
    caller: Admin,
    key: Key,
    bucket_seconds: Annotated[
        float, Query(ge=3600, le=86_400 * 365, description="Whole hours: 3600 by hour, 86400 by day.")
    ] = 3600.0,
    num_buckets: Annotated[int, Query(ge=1, le=1000, description="The last one is now.")] = 24,
) -> Response:
    """Requests made with it; the last few seconds may be missing."""
    _seen(here, caller, key)
    return answer(here.store.keys.usage(key, here.now(), bucket_seconds=int(bucket_seconds), num_buckets=num_buckets))


def _seen(here: Service, caller: Caller, key: str) -> KeyView:
    view = here.store.keys.get(key)
    caller.must_see(view.project, f"key {key}")
    return view
