"""RUN/guard.json: what the guard against forgetting did in a run, written before it takes effect.

The recipe, the data order and what may be resumed follow from the job spec and this record, so a process that is killed at
any moment leaves all that the next one needs. How the guard decides is in `planning/guard.py`.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from steep.artifacts.files import write_atomic
from steep.spec.errors import DamagedArtifact

_FILE = "guard.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GuardRollback(_Frozen):
    """One time that the guard went back to a checkpoint."""

    at_step: int = Field(description="Where training was when it was decided.")
    to_step: int = Field(description="Of the checkpoint that training goes on from; 0 is the base.")
    spec_fingerprint: str = Field(description="Of the training that was left.")
    order_fingerprint: str = Field(description="Of the data order that was left.")
    replay: str | None = Field(
        None, description="The token dataset of sampled replay from now on, when it is a new one."
    )
    replay_tokens: int = Field(0, description="Tokens that were sampled for it.")
    message: str = Field(description="What was done and why, for people.")


class GuardRecord(_Frozen):
    """The rollbacks of one training, oldest first.

    `training` is the fingerprint of what the spec alone makes of the run; under another spec the record is void.
    """

    training: str = ""
    rollbacks: tuple[GuardRollback, ...] = ()

    @classmethod
    def read(cls, run: Path) -> GuardRecord:
        """The record of a run directory; the empty one where the guard did nothing.

        Raises:
            DamagedArtifact: the file is not one.
        """
        file = run / _FILE
        try:
            return cls.model_validate_json(file.read_bytes()) if file.exists() else cls()
        except ValidationError as error:
            raise DamagedArtifact(
                "is not a record of the guard", where=str(file), cure="Restore it from a copy of the run directory."
            ) from error

    def write(self, run: Path) -> None:
        """Record it in a run directory."""
        if self.rollbacks:
            write_atomic(run / _FILE, self.model_dump_json(indent=1))
        else:
            (run / _FILE).unlink(missing_ok=True)

    def until(self, step: int) -> GuardRecord:
        """What is left of it for a line that goes on from the run's checkpoint of this step.

        A checkpoint after the last rollback's was made under all of them; one before it knew nothing of that rollback.
        """
        rollbacks = self.rollbacks
        while rollbacks and step < rollbacks[-1].to_step:
            rollbacks = rollbacks[:-1]
        return self.model_copy(update={"rollbacks": rollbacks})

    def made_before(self, spec_fingerprint: str, order_fingerprint: str, step: int) -> bool:
        """Whether a checkpoint was made before a rollback and is still part of the run's line."""
        for number, one in enumerate(self.rollbacks):
            if (one.spec_fingerprint, one.order_fingerprint) == (spec_fingerprint, order_fingerprint):
                return step <= min(later.to_step for later in self.rollbacks[number:])
        return False

    @property
    def replay(self) -> str | None:
        """The token dataset of sampled replay that is in use now; None: the one that was made at first."""
        return next((one.replay for one in reversed(self.rollbacks) if one.replay is not None), None)
