"""How fast this machine trains this model: a few real steps before a run whose budget is a time."""

from __future__ import annotations

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
    """Training speed in tokens per second: the median of a few steps of one microbatch each, after a first one.

    Nothing is kept of what is trained here, and no checkpoint is written.
    """
    probe = replace(setup, sequences_per_step=setup.microbatch_sequences, average_steps=0, measure=None)
    use_quick_fp32_products(setup.device)
    with device_mesh(setup.device) as mesh:
        trainee = assemble(probe, mesh, choose_precision(setup.device, setup.precision))
        sequences = Sequences(probe.datasets, probe.order, probe.taught)
        seconds: list[float] = []
        began = time.monotonic()
        while len(seconds) <= MIN_STEPS or (len(seconds) <= MAX_STEPS and time.monotonic() - began < PROBE_SECONDS):
            started = time.perf_counter()
            cursor = len(seconds) * probe.sequences_per_step
            train_step(trainee, probe, sequences.step(cursor, probe.sequences_per_step, probe.microbatch_sequences))
            seconds.append(time.perf_counter() - started)
    return probe.step_tokens / statistics.median(seconds[1:])
