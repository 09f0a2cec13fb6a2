"""Names of models, and what they stand for:

tiny-base                    the base that comes with Steep
ft:JOB                       the export of a job
ft:JOB:step-N                a checkpoint of a job
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from steep.artifacts.manifest import MANIFEST
from steep.server.admission import PACKAGED
from steep.server.auth import Caller
from steep.server.service import Service
from steep.spec.api.jobs import JobView
from steep.spec.errors import NotFound

TINY_BASE = "tiny-base"
_PACKAGED = "steep"
_NAME = re.compile(r"^ft:(?P<job>[A-Za-z0-9-]{1,100})(:step-(?P<step>[0-9]{1,9}))?$")


class NoSuchModel(NotFound):
    """There is no model of that name, or not for this key."""

    code = "model_not_found"


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can complete prompts.

    Args:
        name: what it is asked for by.
        created_at: seconds since the epoch.
        owner: the project whose it is, or `steep`.
        project: whose secrets its process gets.
        directory: of an export, or the run directory of a checkpoint.
        step: of a checkpoint.
        trust_remote_code: whether code that comes with it is run.
        version: changes when other weights take its place.
    """

    name: str
    created_at: float
    owner: str
    project: str
    directory: Path
    step: int | None = None
    trust_remote_code: bool = False
    version: int = 0

    @property
    def key(self) -> tuple[object, ...]:
        """The same for the same weights."""
        return (self.directory, self.step, self.version)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of the process that is to hold it."""
        step = () if self.step is None else ("--step", str(self.step))
        return (str(self.directory), *step, *(["--trust-remote-code"] if self.trust_remote_code else []))


def export_name(job_id: str) -> str:
    """The name of a job's export."""
    return f"ft:{job_id}"


def checkpoint_name(job_id: str, step: int) -> str:
    """The name of a job's checkpoint."""
    return f"ft:{job_id}:step-{step}"


def base_of(name: str) -> str:
    """The base that a job is to have, as its spec has it."""
    return str(PACKAGED / TINY_BASE) if name == TINY_BASE else name


def name_of(base: str) -> str:
    """What a spec's base is called here."""
    return TINY_BASE if base == str(PACKAGED / TINY_BASE) else base


def packaged_model() -> Model:
    """The base that comes with Steep."""
    directory = PACKAGED / TINY_BASE
    return Model(TINY_BASE, (directory / "config.json").stat().st_mtime, _PACKAGED, "default", directory)


def find_model(here: Service, caller: Caller, name: str) -> Model:
    """The model of a name.

    Raises:
        NoSuchModel: there is none, or it is another project's, or it is no longer there.
    """
    if name == TINY_BASE:
        return packaged_model()
    match = _NAME.match(name)
    if match is None:
        raise _no_model(name)
    try:
        job = here.store.jobs.get(match["job"], here.now())
        caller.must_see(job.project, "such job")
        return _export(here, job) if match["step"] is None else _checkpoint(here, job, int(match["step"]))
    except NotFound as error:
        raise _no_model(name) from error


def _export(here: Service, job: JobView) -> Model:
    directory = here.run(job.id).export
    stamp = _stamp(directory / "config.json")
    return Model(
        name=export_name(job.id),
        created_at=stamp / 1e9,
        owner=job.project,
        project=job.project,
        directory=directory,
        trust_remote_code=_trusts(here, job.id),
        version=stamp,
    )


def _checkpoint(here: Service, job: JobView, step: int) -> Model:
    view, run = here.store.checkpoints.get(job.id, step), here.run(job.id)
    return Model(
        name=checkpoint_name(job.id, step),
        created_at=view.created_at,
        owner=job.project,
        project=job.project,
        directory=run.path,
        step=step,
        trust_remote_code=_trusts(here, job.id),
        version=_stamp(run.catalog().path(step) / MANIFEST),
    )


def _trusts(here: Service, job: str) -> bool:
    return here.settings.trust_remote_code and here.store.jobs.spec(job).base.trust_remote_code


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError as error:
        raise NotFound("it is not there") from error


def _no_model(name: str) -> NoSuchModel:
    return NoSuchModel(
        f"there is no model {name!r}",
        where="model",
        cure="GET /v1/models lists those that there are; ft:JOB is a job's export, ft:JOB:step-N a checkpoint.",
    )
