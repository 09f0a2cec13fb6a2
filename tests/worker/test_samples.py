"""Samples say what the machine does; GPUs where there are some, and no noise where there are none."""

from __future__ import annotations

import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steep.worker.samples import Sampler


def test_processor_memory_and_disk(tmp_path: Path) -> None:
    sampler = Sampler(tmp_path)
    started = time.time()
    time.sleep(0.05)
    sample = sampler.take()
    assert started <= sample.time <= time.time()
    assert sample.cpu_percent is not None
    assert 0 <= sample.cpu_percent <= 100
    assert sample.memory_bytes is not None
    assert 10 << 20 < sample.memory_bytes < 1 << 40
    assert sample.disk_free_bytes is not None
    assert sample.disk_free_bytes > 0


HOLD = "held = bytearray(64 << 20); print('ready', flush=True); input()"


@pytest.fixture
def large_child() -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    yield child
    child.communicate("\n", timeout=20)


def test_memory_counts_the_processes_that_it_started(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    sampler = Sampler(tmp_path)
    before = sampler.take().memory_bytes
    request.getfixturevalue("large_child")
    after = sampler.take().memory_bytes
    assert before is not None
    assert after is not None
    assert after - before > 48 << 20


class Library(types.ModuleType):
    """A driver with two GPUs, of which one does not say how much power it draws."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, *, driver: bool = True) -> None:
        super().__init__("pynvml")
        self.driver = driver

    def nvmlInit(self) -> None:
        if not self.driver:
            raise self.NVMLError("no driver")

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, name: str) -> int:
        return {"GPU-a": 0, "GPU-b": 1, "MIG-c": 2}[name]

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        if handle == 2:
            raise self.NVMLError("not supported")
        return types.SimpleNamespace(gpu=50 + handle)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return types.SimpleNamespace(used=10 + handle, total=100)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 40 + handle

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if handle == 1:
            raise self.NVMLError("not supported")
        return 250_500


@pytest.mark.parametrize(
    ("visible", "uses"),
    [(None, [50, 51]), ("", []), ("1", [51]), ("GPU-b,GPU-a", [51, 50]), ("1, 0", [51, 50]), ("MIG-c", [])],
)
def test_gpus_are_those_that_the_worker_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, uses: list[int]
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Library())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = Sampler(tmp_path).take().gpus
    assert [one.utilization_percent for one in gpus] == uses
    assert [one.index for one in gpus] == list(range(len(uses)))
    for one in gpus:
        assert one.power_watts == (None if one.utilization_percent == 51 else 250.5)
        assert one.temperature_celsius == one.utilization_percent - 10


@pytest.mark.parametrize("library", [None, Library(driver=False)])
def test_no_driver_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Library | None) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert Sampler(tmp_path).take().gpus == ()


@pytest.mark.gpu
def test_a_real_gpu_is_sampled(tmp_path: Path) -> None:
    import torch

    held = torch.zeros(64 << 20, dtype=torch.uint8, device="cuda")
    gpus = Sampler(tmp_path).take().gpus
    assert len(gpus) == torch.cuda.device_count()
    assert gpus[0].memory_total_bytes > gpus[0].memory_used_bytes > held.numel()
