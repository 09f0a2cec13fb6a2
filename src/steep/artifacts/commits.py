"""Which commits of the hub a run's names mean: looked up once, so that a name means the same bytes for the whole of the run.

RUN/base/commits.json   {"org/name": {"commit": "<40 hex digits>", "fingerprint": "..."}}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from steep.artifacts.files import hash_text, write_atomic
from steep.artifacts.hub import split_revision
from steep.spec.errors import DamagedArtifact


class HubCommit(BaseModel):
    """What a name of the hub means in a run.

    Attributes:
        commit: the commit that its files are taken from.
        fingerprint: what stands for them in the run's fingerprints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit: str
    fingerprint: str

    def name(self, model: str) -> str:
        """The name by which exactly these files are found."""
        return f"{split_revision(model)[0]}@{self.commit}"


_Commits = TypeAdapter(dict[str, HubCommit])


def read_commits(base: Path) -> dict[str, HubCommit]:
    """The commits that are written down in `RUN/base`, by the names of the job.

    Raises:
        DamagedArtifact: the file is none.
    """
    file = base / "commits.json"
    try:
        return _Commits.validate_json(file.read_bytes()) if file.exists() else {}
    except ValidationError as error:
        raise DamagedArtifact(
            "does not say which commits the run uses", where=str(file), cure="Restore it from a copy of the run."
        ) from error


def record_commit(base: Path, model: str, commit: str, *, begun: bool) -> None:
    """Write down what a name means from now on.

    Args:
        base: `RUN/base`.
        model: the name in the job.
        commit: what it means now.
        begun: the run began before its commit was written down. Its fingerprints know the name alone, and stay as they are.
    """
    found = HubCommit(commit=commit, fingerprint="")
    known = model if begun else found.name(model)
    commits: Mapping[str, HubCommit] = {
        **read_commits(base),
        model: found.model_copy(update={"fingerprint": hash_text(known)}),
    }
    write_atomic(base / "commits.json", _Commits.dump_json(dict(commits), indent=1))
