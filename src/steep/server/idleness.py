"""For how long GPUs have done nothing: a pure function of the samples that their worker sent."""

from __future__ import annotations

from collections.abc import Sequence

from steep.spec.api.attempts import DeviceSample
from steep.spec.stages import Stage

IDLE_PERCENT = 5.0
"""A GPU that computes less of the time than this does nothing that is worth its price."""

LONGEST_GAP_SECONDS = 180.0
"""What was between two samples farther apart than this is not known."""


def idle_seconds(samples: Sequence[DeviceSample]) -> float:
    """For how long, until the last sample, all GPUs of a worker have done nothing that they might have. 0 where that is not known.

    While text is prepared there is nothing for them to do.

    Args:
        samples: of one attempt, the earliest first. Times are those of the worker's machine; only their differences count.
    """
    since: float | None = None
    later = samples[-1].time if samples else 0.0
    for sample in reversed(samples):
        excused = not sample.gpus or sample.stage is Stage.PREPARE
        busy = excused or any(gpu.utilization_percent >= IDLE_PERCENT for gpu in sample.gpus)
        if busy or later - sample.time > LONGEST_GAP_SECONDS:
            break
        since = later = sample.time
    return 0.0 if since is None else samples[-1].time - since
