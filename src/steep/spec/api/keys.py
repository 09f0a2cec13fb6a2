"""API keys over the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from steep.spec.api.common import Request, View

Role = Literal["viewer", "member", "admin"]


class KeyRequest(Request):
    """A new API key."""

    name: str = Field(min_length=1, max_length=100)
    role: Role = "member"
    project: str | None = Field(None, description="Confined to one project; none: all of them.")
    expires_in_seconds: float | None = Field(None, gt=0)


class KeyChange(Request):
    """What may be changed of a key."""

    name: str | None = Field(None, min_length=1, max_length=100)
    role: Role | None = None


class KeyView(View):
    """A key without its secret."""

    id: str
    name: str
    prefix: str = Field(description="First characters, to recognise it by.")
    role: Role
    project: str | None = None
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None


class NewKey(KeyView):
    """A key with its secret, which is shown this once."""

    secret: str


class KeyUsage(View):
    """Requests made with a key, by hour or by day."""

    since: float
    bucket_seconds: float
    counts: tuple[int, ...]
