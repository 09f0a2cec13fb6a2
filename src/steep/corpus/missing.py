"""Sources of a job that name files which are not there, told by the key that names them."""

from __future__ import annotations

from steep.corpus.sources import is_missing
from steep.spec.errors import InvalidCorpus
from steep.spec.job import JobSpec


def missing_sources(spec: JobSpec) -> dict[str, str]:
    """Path of each source of this machine that is not there, by its key in the job spec, such as `corpus.sources.0`."""
    keyed = {f"corpus.sources.{number}": source for number, source in enumerate(spec.corpus.sources)}
    if spec.replay.source != "self":
        keyed["replay.source"] = spec.replay.source
    keyed |= {f"evaluation.general.{number}": source for number, source in enumerate(spec.evaluation.general)}
    return {key: source.path for key, source in keyed.items() if is_missing(source)}


def require_sources(spec: JobSpec) -> None:
    """Look whether every source is there. Raises InvalidCorpus, which names the keys of those that are not."""
    missing = missing_sources(spec)
    if missing:
        raise InvalidCorpus(
            "there is no such file or directory",
            where=", ".join(f"{key} ({path})" for key, path in missing.items()),
            cure="Mend the path in the job file; a relative one starts at the file's own directory.",
        )
