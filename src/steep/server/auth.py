"""Who asks, and what they may: API keys for people and programs, attempts' tokens for workers. Nothing is open without.

A viewer looks, a member works, an admin manages keys, projects and what belongs to the whole service. A key of a project
sees that project and no other: what lies elsewhere does not exist for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from steep.server.service import Service
from steep.spec.api.keys import KeyView, Role
from steep.spec.errors import Forbidden, NotFound, Unauthorized

RANKS: dict[Role, int] = {"viewer": 0, "member": 1, "admin": 2}

_BEARER = HTTPBearer(auto_error=False, scheme_name="key", description="An API key: `Authorization: Bearer steep_...`.")
_TOKEN = HTTPBearer(auto_error=False, scheme_name="attempt", description="The token of an attempt, for its worker.")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks.

    Args:
        key: shown with the request.
    """

    key: KeyView

    @property
    def project(self) -> str | None:
        """The only project that the key opens; None: it opens all."""
        return self.key.project

    @property
    def projects(self) -> tuple[str, ...] | None:
        """The same, as lists are chosen by it."""
        return None if self.project is None else (self.project,)

    def sees(self, project: str | None) -> bool:
        """Whether what belongs to a project exists for this key."""
        return self.project is None or self.project == project

    def projects_within(self, project: str | None) -> tuple[str, ...] | None:
        """The projects that a list is about when it is asked for one of them, or (None) for all; None: really all."""
        if project is None:
            return self.projects
        return (project,) if self.sees(project) else ()

    def must_see(self, project: str | None, what: str) -> None:
        """Say that there is no such thing, unless the key sees it.

        Raises:
            NotFound: it is another project's.
        """
        if not self.sees(project):
            raise NotFound(f"there is no {what}")

    def chosen(self, project: str | None) -> str:
        """The project that something new belongs to.

        Raises:
            Forbidden: it is not one that the key opens.
        """
        wanted = project or self.project or "default"
        if not self.sees(wanted):
            raise Forbidden(f"this key opens project {self.project} and no other", where="project")
        return wanted


def service_of(request: Request) -> Service:
    """The service that a request is made to."""
    service: Service = request.app.state.service
    return service


async def _here(request: Request) -> Service:
    return service_of(request)


def bearer_of(request: Request) -> str:
    """What a request shows to be let in.

    Raises:
        Unauthorized: nothing.
    """
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthorized("no key was given", where="Authorization", cure="Send `Authorization: Bearer KEY`.")
    return secret.strip()


def _requiring(role: Role) -> Callable[..., Caller]:
    def caller_of(request: Request, _: Annotated[object, Depends(_BEARER)] = None) -> Caller:
        service, guard = service_of(request), request.app.state.guard
        secret = bearer_of(request)
        key = service.store.keys.authenticate(secret, service.now())
        if key is None:
            guard.failed(request)
            raise Unauthorized("the key is unknown, expired or revoked", where="Authorization")
        guard.admit(key.id)
        service.uses.add(key.id)
        request.state.caller = key
        if RANKS[key.role] < RANKS[role]:
            raise Forbidden(f"a {key.role} may not do this; {_named(role)} may", where="Authorization")
        return Caller(key)

    return caller_of


def _named(role: Role) -> str:
    return "an admin" if role == "admin" else f"a {role}"


async def attempt_token(request: Request, _: Annotated[object, Depends(_TOKEN)] = None) -> str:
    """The token that a worker shows; what it opens is known to the store. Not a coroutine for its own sake: what is none is
    called in another thread, which costs more than what it does.

    Raises:
        Unauthorized: it shows none.
    """
    return bearer_of(request)


Here = Annotated[Service, Depends(_here)]
Viewer = Annotated[Caller, Depends(_requiring("viewer"))]
Member = Annotated[Caller, Depends(_requiring("member"))]
Admin = Annotated[Caller, Depends(_requiring("admin"))]
Token = Annotated[str, Depends(attempt_token)]
