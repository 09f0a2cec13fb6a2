"""What a webhook's receiver gets: one event of a job, as JSON, with headers that say what it is and who wrote it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from steep.spec.events import Event

SIGNATURE_HEADER = "Steep-Signature"
"""`t=TIME,v1=HMAC`, see `client/signatures.py`; only where the alert names a secret."""

DELIVERY_HEADER = "Steep-Delivery"
"""The number of the delivery, as in the body."""

EVENT_HEADER = "Steep-Event"
"""The kind of the event, as in the body."""


class Notification(BaseModel):
    """The body of a webhook's request. A server only ever adds fields."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")

    id: int = Field(description="Number of the delivery; the same each time that it is tried, to tell a repetition by.")
    event: Event
    job_name: str = Field(description="As the job's owner calls it; its id stands in the event.")
    project: str
