"""Routes that say what they answer when somebody asks for the document of all of them, and not before.

Every route makes its answer itself, so that nothing but the document needs to know its shape; and to work out those of all routes
is a sixth of a server's start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi.routing import APIRoute

_routes: list[PromisingRoute] = []


class PromisingRoute(APIRoute):
    """A route whose `response_model` and `responses` are for the document alone. All of them are known to this module."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        response_model: Any = None,
        responses: dict[int | str, dict[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path, endpoint, response_model=None, responses=None, **options)
        self._promised = (response_model, responses or {})
        _routes.append(self)

    def promise(self) -> None:
        """Let an application that includes it from now on know what it answers."""
        self.response_model, self.responses = self._promised


def promise_all() -> None:
    """`PromisingRoute.promise` of all routes."""
    for route in _routes:
        route.promise()
