"""How fast this machine trains this model: a few real steps before a run whose budget is a time."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import replace

from steep.train.assemble import assemble
from steep.train.loader import Sequences
from steep.train.mesh import device_mesh
from steep.train.precision import choose_precision, use_quick_fp32_products
from steep.train.setup import TrainingSetup
from steep.train.step import train_step

PROBE_SECONDS = 5.0
MIN_STEPS, MAX_STEPS = 3, 20


def measure_pace(setup: TrainingSetup) -> float:
    """Training speed in tokens per second, from a few steps of one microbatch and of two.

    The second one of a step costs a pass and no update, so the difference of the two says what each of them takes. Nothing is
    kept of what is trained here, and no checkpoint is written.
    """
    probe = replace(setup, average_steps=0, measure=None)
    passes = math.ceil(setup.sequences_per_step / setup.microbatch_sequences)
    seconds: dict[int, list[float]] = {size: [] for size in range(1, min(passes, 2) + 1)}
    use_quick_fp32_products(setup.device)
    with device_mesh(setup.device) as mesh:
        trainee = assemble(probe, mesh, choose_precision(setup.device, setup.precision))
        sequences = Sequences(probe.datasets, probe.order, probe.taught)
        cursor, began = 0, time.monotonic()
        while len(seconds[1]) <= MIN_STEPS or (
            len(seconds[1]) <= MAX_STEPS and time.monotonic() - began < PROBE_SECONDS
        ):
            for size, taken in seconds.items():
                tried = size * probe.microbatch_sequences
                started = time.perf_counter()
                train_step(trainee, probe, sequences.step(cursor, tried, probe.microbatch_sequences))
                taken.append(time.perf_counter() - started)
                cursor += tried
    one, *two = (statistics.median(taken[1:]) for taken in seconds.values())  # each one's first step is slower
    return probe.step_tokens / _step_seconds(passes, one, *two)


def _step_seconds(passes: int, one: float, two: float = 0.0) -> float:
    """Seconds of a step of so many passes, from those of a step of one and of two.

    Whatever the noise, a second pass takes no less than half of a whole step of one, and no more than all of it.
    """
    another = min(max(two - one, one / 2), one)
    return one + (passes - 1) * another
