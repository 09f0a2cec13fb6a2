"""A stand-in for NVIDIA's driver, where there is none: the calls of `pynvml` that Steep makes, with its real errors and constants.

It is for what no test can do to a real card: lose it, break its memory, fill it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

GB = 10**9


@dataclass
class Card:
    """A GPU, or a part of one."""

    uuid: str
    name: str = "NVIDIA H100 80GB HBM3"
    total: int = 80 * GB
    used: int = 0
    computing: list[int] = field(default_factory=list)
    drawing: list[int] = field(default_factory=list)  # bytes
    parts: list[Card] | None = None
    ecc_errors: int = 0
    remapped: tuple[int, int, int, int] = (0, 0, 0, 0)
    retired_pending: int = 0
    recovery: int = 0
    lost: bool = False
    old: bool = False  # answers as little as a consumer card with an old driver


class Driver:
    """`pynvml` with these cards."""

    def __init__(self, *cards: Card) -> None:
        self.cards = list(cards)
        self.events: list[tuple[Card, int]] = []
        self.is_down = False

    def __getattr__(self, name: str) -> Any:
        return getattr(pynvml, name)  # constants and NVMLError

    def fail(self, code: str) -> None:
        raise pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{code}"))

    def of(self, card: Card, value: Any, *, newer: bool = False) -> Any:
        if card.lost:
            self.fail("GPU_IS_LOST")
        if newer and card.old:
            self.fail("NOT_SUPPORTED")
        return value

    def nvmlDeviceGetCount(self) -> int:
        if self.is_down:
            self.fail("UNINITIALIZED")
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        if index >= len(self.cards):
            self.fail("INVALID_ARGUMENT")
        card: Card = self.of(self.cards[index], self.cards[index])
        return card

    def nvmlDeviceGetUUID(self, card: Card) -> str:
        return card.uuid

    def nvmlDeviceGetName(self, card: Card) -> str:
        return card.name

    def nvmlDeviceGetMemoryInfo(self, card: Card, version: int | None = None) -> SimpleNamespace:
        memory: SimpleNamespace = self.of(
            card, SimpleNamespace(total=card.total, used=card.used), newer=version is not None
        )
        return memory

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> Any:
        return self.of(card, [SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in card.computing])

    def nvmlDeviceGetGraphicsRunningProcesses(self, card: Card) -> Any:
        return self.of(card, [SimpleNamespace(pid=1, usedGpuMemory=used) for used in card.drawing])

    def nvmlDeviceGetMigMode(self, card: Card) -> Any:
        return self.of(card, [0 if card.parts is None else 1] * 2, newer=True)

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> Card:
        if card.parts is None or index >= len(card.parts):
            self.fail("NOT_FOUND")
        assert card.parts is not None
        return card.parts[index]

    def nvmlDeviceGetFieldValues(self, card: Card, fields: list[int]) -> Any:
        assert fields == [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION]
        value = SimpleNamespace(uiVal=card.recovery)
        return self.of(card, [SimpleNamespace(nvmlReturn=pynvml.NVML_SUCCESS, value=value)], newer=True)

    def nvmlDeviceGetRemappedRows(self, card: Card) -> Any:
        return self.of(card, card.remapped, newer=True)

    def nvmlDeviceGetRetiredPagesPendingStatus(self, card: Card) -> Any:
        return self.of(card, card.retired_pending, newer=True)

    def nvmlDeviceGetTotalEccErrors(self, card: Card, kind: int, counter: int) -> Any:
        assert (kind, counter) == (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
        return self.of(card, card.ecc_errors, newer=True)

    def nvmlEventSetCreate(self) -> object:
        return self.events

    def nvmlDeviceRegisterEvents(self, card: Card, kinds: int, events: object) -> None:
        self.of(card, None, newer=True)

    def nvmlEventSetWait_v2(self, events: object, patience: int) -> SimpleNamespace:
        assert patience == 0, "the scheduler must not wait"
        if not self.events:
            self.fail("TIMEOUT")
        card, xid = self.events.pop(0)
        return SimpleNamespace(device=card, eventData=xid)


Open = Callable[[], Any]
