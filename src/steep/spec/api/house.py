"""The house itself over the wire: devices, secrets, the audit log, the status."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from steep.spec.api.common import Request, View


class DeviceView(View):
    """A GPU or a CPU slot: what it is, who holds it."""

    id: str
    backend: str
    kind: Literal["gpu", "cpu"]
    model: str
    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    location: str = ""
    healthy: bool = True
    detail: str = ""
    job_id: str | None = None
    held_since: float | None = None
    expected_free_at: float | None = None


class SecretRequest(Request):
    """The value of a secret. It is stored encrypted, and never shown again."""

    value: str = Field(min_length=1, max_length=64_000, repr=False)


class SecretView(View):
    """A secret without its value: jobs name it, workers get it."""

    name: str
    project: str
    created_at: float
    updated_at: float


class AuditEntry(View):
    """Who did what, and whether it was allowed."""

    id: int
    time: float
    actor: str = Field(description="Id of the key, or `server`.")
    action: str
    subject: str = ""
    project: str | None = None
    outcome: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


class StatusView(View):
    """How the service is."""

    version: str
    started_at: float
    jobs: dict[str, int] = Field(default_factory=dict, description="Number of jobs by state.")
    devices: int = 0
    devices_in_use: int = 0
    devices_unusable: int = 0
    warnings: tuple[str, ...] = Field((), description="What should be looked after, as sentences.")
