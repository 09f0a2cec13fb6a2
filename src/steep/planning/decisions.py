"""A record of what was decided and why, which `steep spec explain` prints."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Decision(BaseModel):
    """A value and why it is what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    value: str
    reason: str


def note(log: list[Decision], field: str, value: str, reason: str) -> None:
    """Record a decision."""
    log.append(Decision(field=field, value=value, reason=reason))
