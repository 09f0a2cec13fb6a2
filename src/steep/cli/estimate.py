"""What can be known of a job before any of it has run: facts for planning, from file headers and sizes alone."""

from __future__ import annotations

import shutil
import subprocess

from steep.planning.estimate import BYTES_PER_TOKEN, base_shape, estimated_facts
from steep.planning.facts import Device, Facts
from steep.spec.job import JobSpec
from steep.spec.units import format_bytes

__all__ = ["BYTES_PER_TOKEN", "estimate_facts"]


def estimate_facts(spec: JobSpec) -> tuple[Facts | None, list[str]]:
    """Facts as far as they can be told without running anything, and a sentence on where each comes from.

    Returns nothing for the facts when the base or the corpus cannot be looked at from here.
    """
    from steep.corpus.sizes import estimated_bytes

    shape, about_base = base_shape(spec)
    size_bytes, about_corpus = estimated_bytes(spec.corpus.sources)
    device, memory_bytes = _device()
    notes = [about_base, about_corpus, f"machine: {device}, {format_bytes(memory_bytes)} of memory free"]
    if shape is None or not size_bytes:
        return None, notes
    return estimated_facts(spec, shape, size_bytes, device, memory_bytes), notes


def _device() -> tuple[Device, int]:
    import psutil

    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False)
        first = answer.stdout.split("\n")[0].strip()
        if answer.returncode == 0 and first.isdecimal():
            return "cuda", int(first) * 2**20
    return "cpu", int(psutil.virtual_memory().available)
