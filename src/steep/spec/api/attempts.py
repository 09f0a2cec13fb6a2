"""What a worker sends to the server, and what it is told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from steep.spec.api.common import Request, View
from steep.spec.reports import Report
from steep.spec.stages import Stage

Directive = Literal["none", "cancel", "pause", "preempt"]
"""What a worker is told in the answer to its reports. All but `none`: save a checkpoint and end with exit code 3."""


class OrderAnswer(View):
    """What the server wants of a worker that asked for orders, and waited for one."""

    directive: Directive = "none"
    directive_detail: str = ""


class LogLine(View):
    """A line that the worker's process wrote. Its text may be shorter or longer than its bytes: secrets are taken out."""

    stream: Literal["stdout", "stderr", "log"]
    offset: int = Field(description="Of its first byte in the stream's file.")
    end: int = Field(description="Of the first byte after it and its newline: where the next line begins.")
    text: str = Field(description="Without the newline.")
    time: float = 0.0


class GpuSample(View):
    """What one GPU does."""

    index: int
    utilization_percent: float
    memory_used_bytes: int
    memory_total_bytes: int
    temperature_celsius: float | None = None
    power_watts: float | None = None


class DeviceSample(View):
    """What a worker's machine does."""

    time: float
    stage: Stage | None = Field(None, description="What the worker was at.")
    cpu_percent: float | None = Field(None, description="Of all cores together, since the sample before.")
    memory_bytes: int | None = Field(None, description="In use by the worker's processes.")
    disk_free_bytes: int | None = Field(None, description="Where the run directory lies.")
    gpus: tuple[GpuSample, ...] = Field((), description="Those that the worker may use.")


class ReportsRequest(Request):
    """Reports of an attempt, in order. Also its heartbeat: an empty one only renews the lease."""

    reports: tuple[Annotated[Report, Field()], ...] = ()
    logs: tuple[LogLine, ...] = ()
    metrics: DeviceSample | None = None


class ReportsAnswer(View):
    """What the server has, and what it wants.

    Args:
        next_report: sequence number of the first report that it does not have.
        next_log: by stream, the offset of the first byte that it does not have.
    """

    next_report: int
    next_log: dict[str, int] = Field(default_factory=dict)
    directive: Directive = "none"
    directive_detail: str = ""
    lease_seconds: float
