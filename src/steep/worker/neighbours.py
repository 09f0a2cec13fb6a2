"""Who else uses this machine's processor. Threads wait for one another at every operation: where others keep the cores busy,
several of them can be far slower than one, and nothing but the speed tells of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

import psutil

MIN_SECONDS = 1.0
"""Over less than that a processor's counters say little."""
_WORKING = ("user", "nice", "system", "irq", "softirq", "steal")


@dataclass(frozen=True, slots=True)
class ProcessorTimes:
    """What the processor's cores had done at a moment.

    Args:
        at: the moment, on a clock that is never set back.
        machine: seconds that all cores together were busy since the machine began.
        own: of these, those of this process and of its children that have ended.
    """

    at: float
    machine: float
    own: float

    @classmethod
    def now(cls) -> Self:
        """As the system counts them."""
        machine = psutil.cpu_times()
        own = psutil.Process().cpu_times()
        children = getattr(own, "children_user", 0.0) + getattr(own, "children_system", 0.0)
        busy = sum(getattr(machine, name, 0.0) for name in _WORKING)
        return cls(time.monotonic(), busy, own.user + own.system + children)


def crowded(before: ProcessorTimes, after: ProcessorTimes, *, num_cores: int, num_threads: int) -> str | None:
    """What to say of it where others left fewer cores between two moments than there are threads to be; None: all is well."""
    seconds = after.at - before.at
    if num_threads < 2 or seconds < MIN_SECONDS:
        return None
    others = max((after.machine - before.machine) - (after.own - before.own), 0.0) / seconds
    if num_cores - others > num_threads - 0.5:
        return None
    return (
        f"others keep {others:.1f} of {num_cores} cores busy, and {num_threads} threads that wait for one another there can be "
        "slower than one: OMP_NUM_THREADS=1 before the command makes it one"
    )
