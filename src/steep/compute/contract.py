"""Where a worker runs: the contract that every backend keeps, of five methods and nothing more.

A backend places and starts processes. It holds no truth about jobs: the server's store does. Losing sight of a worker is
therefore an answer (`unknown`), never a failure, and only `gone` or `ended` allow a second start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Stream = Literal["stdout", "stderr"]

LONGEST_LOG_BYTES = 1 << 20
"""What one call of `logs` returns at most."""

LONGEST_SUBMIT_SECONDS = 45.0
"""After this time whoever submits an order knows what came of it; until then nobody else should submit it again."""


@dataclass(frozen=True, slots=True)
class Device:
    """Something that can be lent to an attempt: a GPU, or a CPU slot where there are none.

    Args:
        id: stable on its machine, over restarts of the server.
        kind: what it is.
        model: as people name it, such as `NVIDIA H100 80GB HBM3`.
        memory_bytes: its own memory; that of the machine's share for a CPU slot.
        location: where it stands, as the backend names it.
    """

    id: str
    kind: Literal["gpu", "cpu"]
    model: str
    memory_bytes: int
    location: str = ""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device as it is now.

    Args:
        memory_used_bytes: by anybody.
        usable: may be lent: healthy, and not used by processes that are none of ours.
        detail: why it is not usable, as a sentence.
    """

    device: Device
    memory_used_bytes: int = 0
    usable: bool = True
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """All devices of a backend, lent ones too; who holds which is known to the server's store."""

    devices: tuple[DeviceState, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """Start a worker for one attempt.

    Args:
        job_id: of the job.
        attempt: its number. Two orders of the same job and attempt start one worker.
        run_directory: what the worker works on; its job.yaml is there.
        devices: ids of those that it may use, and no others.
        environment: variables for the worker beside those of the server, but for the server's own settings (`STEEP_...`) and
            secrets that workers have no use for; the job's secrets come this way, and are not logged.
    """

    job_id: str
    attempt: int
    run_directory: Path
    devices: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a backend knows of a worker.

    Args:
        phase: `starting` (accepted, no process yet), `running`, `ended` (the whole process group is gone and its exit
            code is known), `gone` (verified gone, no exit code: the machine was restarted, or the record of it was
            lost), or `unknown` (it cannot be told now).
        exit_code: of an ended one; negative is a signal.
        detail: a sentence.
    """

    phase: Literal["starting", "running", "ended", "gone", "unknown"]
    exit_code: int | None = None
    detail: str = ""

    @property
    def is_over(self) -> bool:
        """Nothing of it runs any more, so that it may be started again and its devices lent to others."""
        return self.phase in ("ended", "gone")


class Backend(Protocol):
    """Starts workers somewhere. Every method may be called from any thread, by any replica of the server, again and again."""

    name: str

    def capacity(self) -> Capacity:
        """The devices that there are.

        Raises:
            SteepError: they cannot be read now.
        """

    def submit(self, order: Order) -> str:
        """Start a worker, and return the handle that names it over restarts of the server.

        Submitting the same job and attempt again returns the same handle and starts nothing. Returns quickly, and
        within `LONGEST_SUBMIT_SECONDS` whatever happens; the process may still be starting.

        Raises:
            SteepError: it cannot be started, with the reason.
        """

    def status(self, handle: str) -> WorkerStatus:
        """What is known of a worker. Never raises for a handle that it does not know: that is `gone`."""

    def cancel(self, handle: str, *, grace_seconds: float) -> None:
        """Ask a worker to save and end (SIGTERM), and end its whole process group after the grace. Returns at once."""

    def logs(self, handle: str, stream: Stream, offset: int) -> bytes:
        """What was written to a stream from a byte offset on, at most `LONGEST_LOG_BYTES`.

        The file is the run's: attempts of the same run write one after another, and offsets go on, as in `LogLine`.
        """
