"""What all of the HTTP API's requests and responses have in common, and how errors and lists are answered.

Times are seconds since the epoch, sizes are bytes, durations are seconds. A server only ever adds fields; a client passes
over those that it does not know, so responses allow extras and requests do not.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")


class Request(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class View(BaseModel):
    """What the server answers."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")


class Problem(View):
    """What went wrong (RFC 9457, `application/problem+json`), which field it concerns, and what to do about it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    code: str = Field("", description="Short stable name for programs, such as `invalid_spec`.")
    field: str | None = Field(None, description="Path of the field concerned, such as `corpus.sources.0.path`.")
    cure: str | None = None


class Page(View, Generic[Item]):
    """A page of a list."""

    items: tuple[Item, ...]
    page: int = Field(1, ge=1)
    page_size: int = 50
    has_more: bool = False
    total: int | None = Field(None, description="Only where `include_total` asked for it.")
