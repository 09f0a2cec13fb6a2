"""The local backend: workers as processes of this machine, that outlive the server and are found again after it."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Self

from steep.artifacts.files import make_directory
from steep.compute.contract import LONGEST_LOG_BYTES, Capacity, Order, Stream, WorkerStatus
from steep.compute.local import watching
from steep.compute.local.devices import Devices
from steep.compute.local.environment import environment_base, environment_of
from steep.compute.local.launch import Launch
from steep.compute.local.processes import here
from steep.compute.local.records import AttemptRecords, Handle, Ordered
from steep.compute.local.starting import NotWarm, Program, WarmProcess, start_cold
from steep.spec.errors import InvalidInput, SteepError

log = logging.getLogger(__name__)


class LocalBackend:
    """Starts workers on this machine. Any number of these objects, in any processes, may work on the same data directory.

    Args:
        data_directory: of the server; locks of devices lie in it. Records of a worker lie in its run directory.
        cpu_slots: slots of the processor; None is one where there is no GPU, and none where there is.
        warm: keep a process in which everything is imported, and fork workers from it (Linux). It is begun at once and
            takes some seconds and some hundred megabytes; until it is ready, workers are started as new programs.
        program: what a worker is.
    """

    name = "local"

    def __init__(
        self,
        data_directory: Path,
        *,
        cpu_slots: int | None = None,
        warm: bool = True,
        program: Program = Program(),  # noqa: B008 - frozen
    ) -> None:
        self._directory = data_directory.resolve() / "compute"
        make_directory(self._directory / "devices")
        self._devices = Devices(self._directory / "devices", cpu_slots)
        self._program = program
        self._warm: WarmProcess | None = None
        if warm and program.preload is not None and sys.platform.startswith("linux"):
            self._warm = WarmProcess(program.preload, self._common_environment, self._directory / "warm.log")
            try:
                self._warm.begin()
            except SteepError as error:
                log.warning("There is no warm start yet: %s", error)  # and no device either; see `capacity`

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End what helps to start workers. The workers go on."""
        if self._warm is not None:
            self._warm.close()

    def is_warm(self) -> bool:
        """Whether the next worker is forked from a warm process."""
        return self._warm is not None and self._warm.is_ready()

    def capacity(self) -> Capacity:
        """The devices of this machine.

        Raises:
            SteepError: its GPUs cannot be read.
        """
        if self._warm is not None:
            self._warm.begin()  # anew, should it have died; schedulers ask for the capacity again and again
        return Capacity(self._devices.states())

    def submit(self, order: Order) -> str:
        """Start a worker, unless the attempt has one, and return its handle. One that has begun is found without its devices.

        Raises:
            InvalidInput: no such run directory, or it is another job's; no such device.
            OutOfSpace: the disk is full.
            SteepError: a device is in use, or the worker could not be started.
        """
        if "@" in order.job_id:
            raise InvalidInput("contains an @", where=f"job id {order.job_id}", cure="Choose another.")
        handle = Handle(order.job_id, order.attempt, order.run_directory.resolve())
        records = AttemptRecords(handle)
        chosen = None if records.has_begun() else self._devices.choose(order.devices)
        records.claim(Ordered(order.job_id, order.devices, here(), time.monotonic()))
        if chosen is not None and not records.has_begun():
            environment = environment_of(order, str(handle), chosen.threads, chosen.gpus)
            self._start(Launch(str(handle), self._program.module, environment, tuple(map(str, chosen.locks))))
        return str(handle)

    def status(self, handle: str) -> WorkerStatus:
        """What is known of a worker. Also goes on with ending it, where that is due and nobody else does it."""
        try:
            return watching.status_of(Handle.parse(handle))
        except ValueError:
            return WorkerStatus("gone", detail="No worker has such a handle.")

    def cancel(self, handle: str, *, grace_seconds: float) -> None:
        """Ask a worker to save and end, and have it ended after the grace, with all that it began.

        Raises:
            OutOfSpace: there is no room to write the request down.
        """
        try:
            watching.cancel(Handle.parse(handle), grace_seconds)
        except ValueError:
            log.info("Nothing to cancel: no worker has the handle %s.", handle)

    def logs(self, handle: str, stream: Stream, offset: int) -> bytes:
        """What the run's workers wrote to a stream from a byte offset on."""
        try:
            with open(AttemptRecords(Handle.parse(handle)).stream(stream), "rb") as written:
                written.seek(offset)
                return written.read(LONGEST_LOG_BYTES)
        except (ValueError, FileNotFoundError):
            return b""

    def _start(self, launch: Launch) -> None:
        """Start a keeper. Should there be one already, it notices, and so does no harm."""
        if self._warm is not None:
            try:
                self._warm.start(launch)
                return
            except NotWarm as reason:
                log.info("%s is started as a new program: %s.", launch.handle, reason)
        start_cold(launch)

    def _common_environment(self) -> dict[str, str]:
        """That of most workers: of those with one device."""
        one = tuple(state.device.id for state in self._devices.states()[:1])
        return environment_base(self._devices.choose(one).threads)
