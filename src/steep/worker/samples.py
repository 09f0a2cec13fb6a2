"""What this machine does while the worker works: processor, memory, disk, and the GPUs that the worker may use."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from steep.spec.api.attempts import DeviceSample, GpuSample
from steep.spec.stages import Stage


class Sampler:
    """Takes samples. Not for several threads at once.

    Args:
        directory: on the disk whose free space counts.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._gpus: list[tuple[int, Any]] | None = None
        psutil.cpu_percent()  # the first answer means nothing; later ones are since the one before

    def take(self, stage: Stage | None = None) -> DeviceSample:
        """How things are now, while the worker is at a stage."""
        return DeviceSample(
            time=time.time(),
            stage=stage,
            cpu_percent=psutil.cpu_percent(),
            memory_bytes=_memory_bytes(),
            disk_free_bytes=psutil.disk_usage(str(self._directory)).free,
            gpus=tuple(self._sample_gpus()),
        )

    def _sample_gpus(self) -> Iterator[GpuSample]:
        if self._gpus is None:
            self._gpus = _find_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"))
        for index, handle in self._gpus:
            sample = _sample_gpu(index, handle)
            if sample is not None:
                yield sample


def _memory_bytes() -> int:
    """Resident memory of this process and of those that it started."""
    own = psutil.Process()
    total = 0
    for process in (own, *own.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # it has just ended
    return total


def _find_gpus(visible: str | None) -> list[tuple[int, Any]]:
    """The GPUs that CUDA shows to this process, as NVML knows them; none where there is no driver."""
    if visible == "":
        return []
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        if visible is None:
            count = pynvml.nvmlDeviceGetCount()
            return [(index, pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count)]
        return [(index, _handle(pynvml, name.strip())) for index, name in enumerate(visible.split(","))]
    except pynvml.NVMLError:
        return []


def _handle(library: Any, name: str) -> Any:
    if name.isdecimal():
        return library.nvmlDeviceGetHandleByIndex(int(name))
    return library.nvmlDeviceGetHandleByUUID(name)


def _sample_gpu(index: int, handle: Any) -> GpuSample | None:
    """What a GPU does now; nothing where the driver does not say how busy it is, as for a part of one (MIG)."""
    import pynvml

    try:
        use, memory = pynvml.nvmlDeviceGetUtilizationRates(handle), pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError:
        return None
    milliwatts = _ask(pynvml.nvmlDeviceGetPowerUsage, handle)
    return GpuSample(
        index=index,
        utilization_percent=use.gpu,
        memory_used_bytes=memory.used,
        memory_total_bytes=memory.total,
        temperature_celsius=_ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        power_watts=None if milliwatts is None else milliwatts / 1000,
    )


def _ask(question: Any, *arguments: Any) -> float | None:
    import pynvml

    try:
        return float(question(*arguments))
    except pynvml.NVMLError:
        return None
