"""What NVIDIA's management library (NVML) says of the GPUs of this machine. Nothing here touches CUDA.

Health is what the driver knows: whether it reaches the card, memory errors that could not be corrected, rows of memory that
wait for a reset, the recovery that it asks for, and the errors (XID) that it has met since this process began to listen.
See NVIDIA's "XID Errors" and "GPU Memory Error Management" for the meaning of each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import psutil

from steep.spec.errors import SteepError

log = logging.getLogger(__name__)

SERIOUS_XIDS = {
    48: "a memory error that could not be corrected",
    62: "its microcontroller halted",
    64: "faulty memory that could not be replaced",
    74: "a fault of its NVLink",
    79: "it fell off the bus",
    95: "a memory error that reached all programs on it",
    119: "its system processor does not answer",
    120: "a fault of its system processor",
    140: "a memory error that was not recovered from",
}
"""Errors after which a card is set aside. The others are mostly made by the program that met them."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """A GPU, or a part of one (MIG), as it is now.

    Args:
        id: its UUID, which `CUDA_VISIBLE_DEVICES` takes too.
        model: its name.
        memory_bytes: all of it.
        memory_used_bytes: by anybody, without what the driver keeps for itself.
        graphics_bytes: of these, used for drawing on screens.
        pids: processes that compute on it.
        fault: why it must not be used, as a sentence; empty when it is healthy.
    """

    id: str
    model: str
    memory_bytes: int
    memory_used_bytes: int = 0
    graphics_bytes: int = 0
    pids: tuple[int, ...] = ()
    fault: str = ""


class Nvml:
    """A connection to the library. Not for several threads at once.

    Args:
        library: the module `pynvml`, initialised.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._known: dict[int, list[GpuReading]] = {}
        self._xids: dict[str, int] = {}
        self._events = self._ask(library.nvmlEventSetCreate)
        self._listened_to: set[int] = set()

    def readings(self) -> list[GpuReading]:
        """All GPUs; one that was there and cannot be reached any more is among them, with that fault.

        Raises:
            SteepError: the driver does not answer.
        """
        try:
            self._hear()
            count = self._library.nvmlDeviceGetCount()
        except self._library.NVMLError as error:
            raise _not_readable(error) from error
        found: list[GpuReading] = []
        for index in sorted({*range(count), *self._known}):
            try:
                self._known[index] = list(self._read(index))
            except self._library.NVMLError as error:
                if index not in self._known:
                    log.warning("GPU %d cannot be reached and is left out: %s", index, error)
                fault = f"It cannot be reached: {error}."
                self._known[index] = [replace(reading, pids=(), fault=fault) for reading in self._known.get(index, [])]
            found += self._known[index]
        return found

    def _read(self, index: int) -> Iterator[GpuReading]:
        card = self._library.nvmlDeviceGetHandleByIndex(index)
        if self._events is not None and index not in self._listened_to:
            self._ask(
                self._library.nvmlDeviceRegisterEvents, card, self._library.nvmlEventTypeXidCriticalError, self._events
            )
            self._listened_to.add(index)
        fault = self._fault(card)
        mode = self._ask(self._library.nvmlDeviceGetMigMode, card)
        if mode is None or mode[0] != self._library.NVML_DEVICE_MIG_ENABLE:
            yield self._reading(card, fault)
            return
        for part in range(self._ask(self._library.nvmlDeviceGetMaxMigDeviceCount, card) or 0):
            handle = self._ask(self._library.nvmlDeviceGetMigDeviceHandleByIndex, card, part)
            if handle is not None:
                yield self._reading(handle, fault)

    def _reading(self, handle: Any, fault: str) -> GpuReading:
        library = self._library
        memory = self._ask(library.nvmlDeviceGetMemoryInfo, handle, library.nvmlMemory_v2)
        memory = memory or self._ask(library.nvmlDeviceGetMemoryInfo, handle)  # a driver before version 510
        drawing = self._ask(library.nvmlDeviceGetGraphicsRunningProcesses, handle) or []
        computing = self._ask(library.nvmlDeviceGetComputeRunningProcesses, handle) or []
        return GpuReading(
            id=library.nvmlDeviceGetUUID(handle),
            model=library.nvmlDeviceGetName(handle),
            memory_bytes=memory.total if memory else psutil.virtual_memory().total,  # shared with the processor
            memory_used_bytes=memory.used if memory else 0,
            graphics_bytes=sum(one.usedGpuMemory or 0 for one in drawing),
            pids=tuple(sorted(one.pid for one in computing)),
            fault=fault,
        )

    def _fault(self, card: Any) -> str:
        library = self._library
        xid = self._xids.get(library.nvmlDeviceGetUUID(card))
        if xid is not None:
            return f"The driver met XID {xid}: {SERIOUS_XIDS[xid]}."
        fields = self._ask(library.nvmlDeviceGetFieldValues, card, [library.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
        if fields and fields[0].nvmlReturn == library.NVML_SUCCESS and fields[0].value.uiVal:
            return "The driver asks for a reset of it, or of the machine, before it is used again."
        rows = self._ask(library.nvmlDeviceGetRemappedRows, card)
        if rows is not None and rows[3]:
            return "It has faulty memory that could not be replaced."
        if (rows is not None and rows[2]) or self._ask(library.nvmlDeviceGetRetiredPagesPendingStatus, card):
            return "It has faulty memory that a reset will replace."
        errors = self._ask(
            library.nvmlDeviceGetTotalEccErrors,
            card,
            library.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            library.NVML_VOLATILE_ECC,
        )
        if errors:
            return f"It had {errors} memory errors that could not be corrected, since it was reset last."
        return ""

    def _hear(self) -> None:
        """Take in the errors that the driver met since the last time."""
        while self._events is not None:
            event = self._ask(self._library.nvmlEventSetWait_v2, self._events, 0)
            if event is None:
                return
            if event.eventData in SERIOUS_XIDS:
                self._xids[self._library.nvmlDeviceGetUUID(event.device)] = event.eventData

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """The answer, or None where this card or driver cannot tell. A card that is lost is an error."""
        library = self._library
        try:
            return question(*arguments)
        except library.NVMLError as error:
            if error.value in (library.NVML_ERROR_GPU_IS_LOST, library.NVML_ERROR_RESET_REQUIRED):
                raise
            return None


def open_nvml() -> Nvml | None:
    """The library, or None where there is no NVIDIA driver.

    Raises:
        SteepError: there is one, but it does not answer.
    """
    try:
        import pynvml
    except ImportError:
        log.info("nvidia-ml-py is not installed; GPUs are not looked for")
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value in (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED):
            return None
        raise _not_readable(error) from error
    return Nvml(pynvml)


def _not_readable(error: Exception) -> SteepError:
    return SteepError(
        f"the GPUs cannot be read: {error}", where="NVIDIA driver", cure="Mend what `nvidia-smi` complains of."
    )
