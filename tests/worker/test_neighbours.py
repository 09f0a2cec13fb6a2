"""Training says so when others use the cores that its threads count on."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from steep.worker.neighbours import ProcessorTimes, crowded

BEGAN = ProcessorTimes(at=100.0, machine=5000.0, own=40.0)


@pytest.mark.parametrize(
    ("machine", "own", "threads", "is_told"),
    [
        (18.0, 18.0, 2, False),  # all of it was ours
        (12.0, 10.0, 2, False),  # a little of others'
        (12.0, 2.0, 2, True),  # a core of others'
        (20.0, 0.0, 2, True),
        (20.0, 0.0, 1, False),  # one thread waits for nobody
    ],
)
def test_it_is_told_of_others_and_not_of_itself(machine: float, own: float, threads: int, is_told: bool) -> None:
    after = ProcessorTimes(at=110.0, machine=5000.0 + machine, own=40.0 + own)
    told = crowded(BEGAN, after, num_cores=2, num_threads=threads)
    assert (told is not None) == is_told
    if told is not None:
        assert f"others keep {(machine - own) / 10:.1f} of 2 cores busy" in told


def test_nothing_is_said_of_a_moment_or_where_cores_are_left() -> None:
    assert crowded(BEGAN, ProcessorTimes(100.5, 5001.0, 40.0), num_cores=2, num_threads=2) is None
    assert crowded(BEGAN, ProcessorTimes(110.0, 5020.0, 40.0), num_cores=8, num_threads=4) is None


def test_the_systems_counters_know_who_works() -> None:
    """Another process that computes is the machine's and not ours; what children did is ours when they have ended."""
    spin = [sys.executable, "-c", "import time\nend = time.process_time() + 1\nwhile time.process_time() < end: pass"]
    before = ProcessorTimes.now()
    child = subprocess.Popen(spin)
    while child.poll() is None:
        time.sleep(0.05)
    after = ProcessorTimes.now()
    assert after.own - before.own >= 0.9
    assert after.machine - before.machine >= 0.8
