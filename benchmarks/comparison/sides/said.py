"""What every measuring script shares: what it was told, when its process began, and the one line that it answers."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Enough(Exception):
    """Raised where the measuring ends, so that no side does any more work."""


def arguments() -> dict[str, Any]:
    """What the driver asks for."""
    return json.loads(sys.argv[1])


def seconds_since_start() -> float:
    """Seconds since the driver started this process: the interpreter and every import count."""
    return time.time() - float(os.environ["MEASURING_SINCE"])


def peak_bytes(device: str) -> int:
    """The most memory that this process has held so far, on the device where it trains.

    On Linux it is read from /proc: `ru_maxrss` also counts what the driver held when it started this process.
    """
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def answer(
    values: Mapping[str, float],
    curves: Mapping[str, Sequence[float]] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Print the one line."""
    print(json.dumps({"values": values, "curves": curves or {}, "facts": facts or {}}), flush=True)
