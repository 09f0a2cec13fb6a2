"""What a job may read and write: each path of its spec is looked at before the job is taken, and resolved before it begins.

    steep://files/ID      an uploaded file of the job's project
    /a/path               of this machine, below one of the server's roots; else refused
    http(s)://            at public addresses only, unless the server allows others
    s3://  hf://          with the credentials of the job's project, or those that the operator lends to all jobs; but not
                          where the server keeps copies of all jobs

A gap is known: a link below a root may lead out of it by the time that the worker reads it, so whoever may write below a root is
trusted so far. Names of hosts are looked at again when they are read, see `corpus/addresses.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from steep.client.config import config_file
from steep.server.addresses import require_public
from steep.server.alerts import admit_alerts
from steep.server.auth import Caller
from steep.server.service import Service
from steep.server.settings import ServerSettings
from steep.spec.errors import Forbidden, InvalidSpec, NotFound
from steep.spec.job import JobSpec, Source
from steep.spec.load import is_remote

UPLOADED = "steep://files/"
PACKAGED = Path(__file__).resolve().parents[1] / "data"  # the tiny base that comes with Steep
BASE_FIELD = "base.model"
_UPLOAD = "Upload the file, or have the operator start the server with --private-urls."
_SUBMIT = "`steep jobs submit --upload` uploads text that lies where you are; or have the operator name a directory above it with --root."
_TEXT = ("corpus.", "replay.", "evaluation.general.")
"""Fields for which an upload can stand."""
_WILDCARD = re.compile(r"[*?\[]")
_HUB_ID = re.compile(r"^[\w.-]+(/[\w.-]+)?(@[\w./-]+)?$")

Change = Callable[[str, str], str]


def owned(spec: JobSpec, caller: Caller) -> JobSpec:
    """The spec with the project that it belongs to: the key's own, where it names none.

    Raises:
        Forbidden: the key does not open its project.
    """
    named = spec.service.project if "project" in spec.service.model_fields_set else None
    project = caller.chosen(named)
    return spec.model_copy(update={"service": spec.service.model_copy(update={"project": project})})


def admit(spec: JobSpec, caller: Caller, service: Service) -> JobSpec:
    """The spec with the project that it belongs to; refuses a job that reads or writes where it may not.

    Raises:
        Forbidden: the key does not open its project, of which nothing is told then; or it runs code that comes with a model,
            which this server does not allow.
        InvalidSpec: a path, a URL, a file or a secret that it names is none, or is not allowed.
    """
    spec = owned(spec, caller)
    if spec.base.trust_remote_code and not service.settings.trust_remote_code:
        raise Forbidden(
            "this server runs no code that comes with a model",
            where="base.trust_remote_code",
            cure="Leave it out, or have the operator start the server with --trust-remote-code.",
        )
    admit_alerts(spec, service)
    return _walk(spec, lambda field, path: _checked(path, field, spec, service))


def resolve(spec: JobSpec, service: Service) -> JobSpec:
    """The spec as the worker reads it: uploaded files by their paths.

    Raises:
        InvalidSpec: one of them is not there any more.
    """
    return _walk(spec, lambda field, path: _local(path, field, spec, service))


# ------------------------------------------------------------------------------------------------------------ one path


def _checked(path: str, field: str, spec: JobSpec, service: Service) -> str:
    if path.startswith(UPLOADED):
        _uploaded(path, field, spec, service)
    elif not is_remote(path):
        _below_a_root(path, field, service.settings)
        if not (field == BASE_FIELD and _is_own_export(path, spec, service)):
            _keep_out(path, field, service.settings)
    elif _in_bucket(path):
        _keep_out_of_bucket(path, field, service.settings)
    elif (scheme := path.partition("://")[0].lower()) in ("http", "https"):
        require_public(path, field, private_too=service.settings.private_urls, cure=_UPLOAD)
    elif scheme != "hf":
        raise InvalidSpec(
            f"there is no way to read {scheme}://",
            where=field,
            cure=f"Give {UPLOADED}ID, http(s)://, s3://bucket/prefix or hf://org/dataset.",
        )
    return path


def _local(path: str, field: str, spec: JobSpec, service: Service) -> str:
    return str(_uploaded(path, field, spec, service)) if path.startswith(UPLOADED) else path


def _uploaded(path: str, field: str, spec: JobSpec, service: Service) -> Path:
    try:
        view = service.store.files.get(path.removeprefix(UPLOADED))
    except NotFound:
        view = None
    if view is None or view.project != spec.service.project:
        raise InvalidSpec(
            f"project {spec.service.project} has no such file",
            where=field,
            cure="`steep files list` shows those that there are; `steep files upload` adds one.",
        )
    return service.settings.file_directory(view.id) / view.name


def _below_a_root(path: str, field: str, settings: ServerSettings) -> None:
    fixed = Path(*_before_wildcards(Path(path).parts))
    if not fixed.is_absolute():
        raise InvalidSpec("is not an absolute path", where=field, cure="Write where it lies on the server, from / on.")
    place = fixed.resolve()
    allowed = (*settings.roots, PACKAGED) if field == BASE_FIELD else settings.roots
    if ".." in Path(path).parts or not any(place.is_relative_to(root.resolve()) for root in allowed):
        raise InvalidSpec(
            "lies on the server, and outside of what jobs may read there",
            where=field,
            cure=_SUBMIT if field.startswith(_TEXT) else "Have the operator name a directory above it with --root.",
        )


def _is_own_export(path: str, spec: JobSpec, service: Service) -> bool:
    """Whether it is what another job of the project came to."""
    place, runs = Path(path).resolve(), (service.settings.data / "runs").resolve()
    parts = place.relative_to(runs).parts if place.is_relative_to(runs) else ()
    if len(parts) != 2 or parts[1] != "export":
        return False
    try:
        return service.store.jobs.get(parts[0], service.now()).project == spec.service.project
    except NotFound:
        return False


def _keep_out(path: str, field: str, settings: ServerSettings) -> None:
    """The server's own files are nobody's text, wherever roots lie: keys, secrets, and what belongs to other projects."""
    place = Path(*_before_wildcards(Path(path).parts)).resolve()
    kept = settings.artifacts
    copies = () if kept is None or _in_bucket(kept) else (Path(kept.removeprefix("file://")).resolve(),)
    for own in (settings.data.resolve(), config_file().parent.resolve(), *copies):
        inside = place.is_relative_to(own)
        above = own.is_relative_to(place) and not any(part.startswith(".") for part in own.relative_to(place).parts)
        if inside or above:  # from above, nothing that is hidden is read
            raise _own_files(field, inside)


def _keep_out_of_bucket(path: str, field: str, settings: ServerSettings) -> None:
    """The same for copies of all jobs' checkpoints in S3, which whoever has the operator's keys could read and write."""
    kept = settings.artifacts
    if kept is None or not _in_bucket(kept):
        return
    place, own = _key(path), _key(kept)
    inside = place.is_relative_to(own)
    if inside or own.is_relative_to(place):
        raise _own_files(field, inside)


def _own_files(field: str, inside: bool) -> InvalidSpec:
    what = "lies among the server's own files" if inside else "holds the server's own files"
    return InvalidSpec(what, where=field, cure="Name a directory beside them.")


def _in_bucket(url: str) -> bool:
    return url.lower().startswith("s3://")


def _key(url: str) -> PurePosixPath:
    """Bucket and key, as far as they are known."""
    return PurePosixPath(*_before_wildcards(PurePosixPath(url[len("s3://") :]).parts))


def _before_wildcards(parts: Iterable[str]) -> Iterator[str]:
    for part in parts:
        if _WILDCARD.search(part):
            return
        yield part


# ---------------------------------------------------------------------------------------------------------- every path


def _walk(spec: JobSpec, change: Change) -> JobSpec:
    """The spec with each path changed by a function of the field's name and the path."""
    evaluation, store = spec.evaluation, spec.checkpoints.store
    tasks = tuple(
        change(f"evaluation.tasks.{number}", task) if task.endswith((".yaml", ".yml")) else task
        for number, task in enumerate(evaluation.tasks)
    )
    general = tuple(
        _source(one, f"evaluation.general.{number}", change) for number, one in enumerate(evaluation.general)
    )
    sources = (_source(one, f"corpus.sources.{number}", change) for number, one in enumerate(spec.corpus.sources))
    replay = spec.replay.source
    if not isinstance(replay, str):
        replay = _source(replay, "replay.source", change)
    return spec.model_copy(
        update={
            "base": _base(spec, change),
            "corpus": spec.corpus.model_copy(update={"sources": tuple(sources)}),
            "replay": spec.replay.model_copy(update={"source": replay}),
            "evaluation": evaluation.model_copy(update={"general": general, "tasks": tasks}),
            "checkpoints": spec.checkpoints.model_copy(
                update={"store": None if store is None else change("checkpoints.store", store)}
            ),
        }
    )


def _source(source: Source, field: str, change: Change) -> Source:
    return source.model_copy(update={"path": change(f"{field}.path", source.path)})


def _base(spec: JobSpec, change: Change) -> Any:
    base = spec.base
    if base.model is not None:
        return base.model_copy(update={"model": _model(base.model, "base.model", change)})
    assert base.from_scratch is not None
    tokenizer = base.from_scratch.tokenizer
    if tokenizer is None:
        return base
    changed = _model(tokenizer, "base.from_scratch.tokenizer", change)
    return base.model_copy(update={"from_scratch": base.from_scratch.model_copy(update={"tokenizer": changed})})


def _model(model: str, field: str, change: Change) -> str:
    """A hub id is no path."""
    if not is_remote(model) and not Path(model).is_absolute() and _HUB_ID.match(model) and ".." not in model:
        return model
    if is_remote(model):
        raise InvalidSpec("a base model is a directory or a hub id, and no URL", where=field)
    return change(field, model)
