"""Projects over the wire: what they may use, and what they keep."""

from __future__ import annotations

from pydantic import Field

from steep.spec.api.common import Request, View
from steep.spec.wording import PROJECT


class Quota(View):
    """What a project may use at once; none is unlimited."""

    gpus: int | None = Field(None, ge=0)
    jobs: int | None = Field(None, ge=0)
    stored_bytes: int | None = Field(None, ge=0)


class Keeping(View):
    """What a project keeps of the checkpoints of a job that has ended; what each keeps while it works, its spec says."""

    after_seconds: float | None = Field(
        None, ge=0, description="From so long after its end on; none: everything is kept until somebody deletes it."
    )
    last: int = Field(1, ge=1, description="So many of the newest.")
    best: int = Field(1, ge=1, description="And so many of the best: most gain within the forgetting budget.")


class ProjectView(View):
    """A project, what it may use and what it uses."""

    name: str
    share: float = Field(1.0, gt=0, description="Weight in fair sharing.")
    quota: Quota = Quota()
    keep: Keeping = Keeping()
    gpus_in_use: int = 0
    jobs_in_use: int = 0
    stored_bytes: int = 0
    freed_bytes: int = Field(0, description="Of checkpoints that were deleted, of the jobs that are there.")
    created_at: float


class ProjectRequest(Request):
    """A new project, or new settings of one."""

    name: str = Field(pattern=PROJECT)
    share: float = Field(1.0, gt=0)
    quota: Quota = Quota()
    keep: Keeping = Keeping()
