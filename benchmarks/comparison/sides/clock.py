"""The same reading of the clock for both trainers: when each step ended, and how long saving held training up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from comparison.sides.said import peak_bytes, seconds_since_start


@dataclass
class StepClock:
    """Notes the end of each step.

    Args:
        device: whose memory is read.
        steps_before_save: the step whose end is the last moment before a first checkpoint; its peak is kept.
    """

    device: str
    steps_before_save: int
    ends: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    first_step_seconds: float = 0.0
    peak_without_save_bytes: int = 0

    def step_ended(self) -> int:
        """Call as soon as a step's update is made; returns the number of steps made."""
        self.ends.append(time.perf_counter())
        if len(self.ends) == 1:
            self.first_step_seconds = seconds_since_start()
        if len(self.ends) == self.steps_before_save:
            self.peak_without_save_bytes = peak_bytes(self.device)
        return len(self.ends)

    def values(self, step_tokens: int, warm_steps: int) -> dict[str, float]:
        """What both trainers report.

        Args:
            step_tokens: tokens of a step.
            warm_steps: first steps, which the speed leaves out.
        """
        found: dict[str, float] = {"first_step_seconds": self.first_step_seconds, "peak_bytes": peak_bytes(self.device)}
        if self.peak_without_save_bytes:
            found["peak_without_save_bytes"] = self.peak_without_save_bytes
        steps = len(self.ends) - warm_steps
        if steps > 0 and warm_steps > 0:
            seconds = self.ends[-1] - self.ends[warm_steps - 1]
            found["tokens_per_second"] = steps * step_tokens / seconds
        return found


def save_values(stalls: Sequence[float], steps: Sequence[float], saved_after: Sequence[int]) -> dict[str, float]:
    """What checkpoints cost.

    Args:
        stalls: seconds for which training stood still, by checkpoint; the first one apart from the others.
        steps: seconds of each step, without those.
        saved_after: after how many steps each of them was saved.

    Returns:
        `first_stall_seconds`; `stall_seconds`, the median of the others; `drag_seconds`, by how much the steps between two
        saves were slower than usual, all together, since writing in the background takes time too.
    """
    usual = statistics.median(steps)
    drags = [
        sum(seconds - usual for seconds in steps[begin:end])
        for begin, end in zip(saved_after[1:], [*saved_after[2:], len(steps)], strict=True)
    ]
    return {
        "first_stall_seconds": stalls[0],
        "stall_seconds": statistics.median(stalls[1:]),
        "drag_seconds": max(0.0, statistics.median(drags)),
    }
