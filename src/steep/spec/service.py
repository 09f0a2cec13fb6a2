"""The `service` part of a job spec: what the service needs to know beyond the training itself. `steep run` passes over it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, model_validator

from steep.spec.events import EventKind
from steep.spec.units import Seconds, Tokens
from steep.spec.wording import PROJECT


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Part):
    """At 80 % of a limit the job warns; at 100 % it saves a checkpoint and is held."""

    cost: float | None = Field(None, gt=0, description="In the currency of the server's price table.")
    time: Seconds | None = Field(None, gt=0, description="Seconds of work, all attempts together; waiting is free.")
    tokens: Tokens | None = Field(None, gt=0, description="Tokens trained, replay included.")


DEFAULT_ALERTS: tuple[EventKind, ...] = (
    EventKind.SUCCEEDED,
    EventKind.FAILED,
    EventKind.CANCELLED,
    EventKind.UNREACHABLE,
    EventKind.LIMIT_WARNED,
    EventKind.LIMIT_REACHED,
    EventKind.FORGETTING_EXCEEDED,
    EventKind.GUARD_TRIGGERED,
    EventKind.ROLLED_BACK,
    EventKind.LOSS_SPIKE,
    EventKind.CHECKPOINT_DAMAGED,
)


class Alert(_Part):
    """Who is told, and of what: a webhook or an e-mail address."""

    webhook: AnyHttpUrl | None = Field(None, description="The event is posted there as JSON.")
    secret: str | None = Field(None, description="Name of a secret of the project, which signs the webhook's body.")
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")] | None = Field(None, description="Address to write to.")
    on: tuple[EventKind, ...] = Field(DEFAULT_ALERTS, description="Kinds of events to tell of.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.webhook is None) == (self.email is None):
            raise ValueError("give either a webhook or an email, not both")
        if self.secret is not None and self.webhook is None:
            raise ValueError("a secret signs a webhook; an email has none")
        return self


class Service(_Part):
    """How the service is to treat the job. Nothing of it changes what is trained."""

    project: str = Field("default", pattern=PROJECT, description="Whose quota and view it is.")
    priority: int = Field(0, ge=-100, le=100, description="Higher ones go first and may preempt lower ones.")
    gpu: str | None = Field(None, description="Model of GPU, such as H100; any by default.")
    gpu_count: int | None = Field(
        None, ge=0, le=1024, description="GPUs, all or none; by default one where the server has any, else a CPU slot."
    )
    location: str | None = Field(None, description="Where to run, as the backends name it; anywhere by default.")
    limits: Limits = Field(Limits(), description="Of cost, time and tokens.")
    alerts: tuple[Alert, ...] = Field((), max_length=20, description="Who is told of what.")
    stop_when_idle: Seconds | None = Field(
        None, gt=0, description="Save and hold the job when its GPUs do nothing for this long."
    )
    held: bool = Field(False, description="Queue it paused.")
    max_attempts: int = Field(10, ge=1, le=100, description="Attempts at most, after failures of machines.")
