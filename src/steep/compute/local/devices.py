"""The devices of this machine: its GPUs, or slots of its processor where there are none, and who uses them."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from steep.compute.contract import Device, DeviceState
from steep.compute.local import locks
from steep.compute.local.nvml import GpuReading, Nvml, open_nvml
from steep.compute.local.processes import below, has_mark, here, session_of
from steep.compute.local.records import AttemptRecords, Handle, Started
from steep.spec.errors import InvalidInput, SteepError

IDLE_BYTES = 768 << 20
"""A GPU that is at rest has less of its memory in use: what drivers keep, not what a program does."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Devices that a worker is to use.

    Args:
        gpus: ids of those that are GPUs, as CUDA takes them.
        threads: that it may compute with: the devices' share of the processor's cores.
        locks: a file for each device, locked while a worker uses it; it names the worker.
    """

    gpus: tuple[str, ...]
    threads: int
    locks: tuple[Path, ...]


class Devices:
    """What may be lent. May be used from any thread.

    Args:
        lock_directory: where a file for each device is locked while a worker uses it.
        cpu_slots: of the processor; None is one where there is no GPU, and none where there is.
        open_library: opens NVML, when first asked for devices.
    """

    def __init__(
        self, lock_directory: Path, cpu_slots: int | None, open_library: Callable[[], Nvml | None] = open_nvml
    ) -> None:
        self._lock_directory = lock_directory
        self._cpu_slots = cpu_slots
        self._open_library = open_library
        self._library: Nvml | None = None
        self._was_opened = self._had_gpus = False
        self._guard = threading.Lock()

    def states(self) -> tuple[DeviceState, ...]:
        """All of them, as they are now.

        Raises:
            SteepError: the GPUs cannot be read.
        """
        gpus = tuple(self._state_of_gpu(reading) for reading in self._readings())
        slots = (0 if gpus else 1) if self._cpu_slots is None else self._cpu_slots
        return gpus + self._slots(slots)

    def choose(self, ids: tuple[str, ...]) -> Chosen:
        """The devices with these ids, and what comes with them.

        Raises:
            InvalidInput: there is none with one of them, or a worker cannot use them together.
            SteepError: the GPUs cannot be read.
        """
        there = {state.device.id: state.device for state in self.states()}
        for missing in (one for one in ids if one not in there):
            raise InvalidInput("there is no such device here", where=missing, cure="`steep gpus` lists those that are.")
        if len(ids) > 1 and any(one.startswith("MIG-") for one in ids):
            raise InvalidInput(
                "a worker sees only one part of a GPU", where=ids[0], cure="Ask for one, or for whole GPUs."
            )
        gpus = tuple(one for one in ids if there[one].kind == "gpu")
        alike = sum(device.kind == ("gpu" if gpus else "cpu") for device in there.values())
        return Chosen(gpus, share_of_cores(len(gpus or ids), alike), tuple(map(self._lock, ids)))

    def _readings(self) -> list[GpuReading]:
        """Of the GPUs. A machine that had some is never taken for one without, whatever its driver says."""
        with self._guard:
            if self._library is None and (self._had_gpus or not self._was_opened):
                self._library = self._open_library()
                self._was_opened = True
            if self._library is None:
                if self._had_gpus:
                    raise SteepError(
                        "the GPUs are gone", where="NVIDIA driver", cure="Mend what `nvidia-smi` complains of."
                    )
                return []
            try:
                readings = self._library.readings()
            except SteepError:
                self._library = None  # opened anew next time: the driver may have been loaded again
                raise
            self._had_gpus = self._had_gpus or bool(readings)
            return readings

    def _lock(self, device_id: str) -> Path:
        return self._lock_directory / f"{device_id.replace('/', '_')}.lock"

    def _state_of_gpu(self, reading: GpuReading) -> DeviceState:
        lock = self._lock(reading.id)
        holder = locks.word_of(lock) if locks.is_held(lock) else ""
        detail = reading.fault or why_not_free(reading, holder, is_of_worker)
        device = Device(reading.id, "gpu", reading.model, reading.memory_bytes, here().machine)
        return DeviceState(device, reading.memory_used_bytes, usable=not detail, detail=detail)

    def _slots(self, number: int) -> tuple[DeviceState, ...]:
        memory = psutil.virtual_memory()
        model = _processor_name()
        return tuple(
            DeviceState(
                Device(f"cpu-{slot}", "cpu", model, memory.total // number, here().machine), memory.used // number
            )
            for slot in range(number)
        )


def why_not_free(reading: GpuReading, holder: str, is_of: Callable[[int, str], bool]) -> str:
    """Why a healthy GPU may not be lent, as a sentence; empty when it may.

    Args:
        reading: of the GPU.
        holder: handle of the worker that uses it; empty when none of ours does.
        is_of: whether a process belongs to the worker with a handle.
    """
    for pid in reading.pids:
        if not psutil.pid_exists(pid):  # of another container, or just ended
            if not holder:
                return f"A process that is out of sight ({pid}) uses it."
        elif not (holder and is_of(pid, holder)):
            return f"Process {pid} ({_name_of(pid)}) uses it, which is none of ours."
    in_use = reading.memory_used_bytes - reading.graphics_bytes
    if not holder and in_use > IDLE_BYTES:
        return f"{in_use / 1e9:.1f} GB of its memory are not free yet, though no worker of ours uses it."
    return ""


def is_of_worker(pid: int, handle: str) -> bool:
    """Whether a process belongs to a worker: it is in its session, below it, or carries its mark."""
    started = AttemptRecords(Handle.parse(handle)).started()
    return has_mark(pid, handle) or (started is not None and _is_below(pid, started))


def share_of_cores(devices: int, alike: int) -> int:
    """Threads for a worker with some of the machine's devices; one with none counts as if it had one.

    Args:
        devices: that it has.
        alike: devices of that kind in the machine.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores * max(1, devices) // max(1, alike))


def _is_below(pid: int, started: Started) -> bool:
    return session_of(pid) == started.worker.pid or any(one.pid == pid for one in below(started.worker))


def _name_of(pid: int) -> str:
    try:
        one = psutil.Process(pid)
        return f"{one.name()} of {one.username()}"
    except psutil.Error:
        return "it has just ended"


def _processor_name() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
