"""The memory that is really there, what this process has used at most, and how it keeps what it freed."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

import psutil
import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_STATUS = Path("/proc/self/status")
_CGROUP = Path("/sys/fs/cgroup")


def available_bytes(device: torch.device) -> int:
    """Bytes that may still be allocated on a device; a container's limit counts as well as the machine's memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    free = int(psutil.virtual_memory().available)
    room = _container_room_bytes(_CGROUP)
    return free if room is None else min(free, room)


def peak_bytes(device: torch.device) -> int:
    """The most memory this process has held on a device since it began."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if _STATUS.exists():  # what the system counts for `getrusage` survives exec, and may be that of a larger parent
        return int(_STATUS.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def keep_freed_memory(device: torch.device) -> bool:
    """Let the C library keep what tensors on a CPU free, for the next step's tensors, which are as large.

    By default it gives large blocks back to the system at once, and the system clears their pages anew at each step: a
    tenth of the time of training. A setting of the whole process. Returns whether it took effect: with glibc, on a CPU.
    """
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


def _container_room_bytes(cgroup: Path) -> int | None:
    """What a control group (version 2 or 1) leaves; None without a limit. Reclaimable file cache counts as free."""
    for limit_name, used_name, cache_key in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit_file, used_file = cgroup / limit_name, cgroup / used_name
        if not (limit_file.exists() and used_file.exists()):
            continue
        limit = limit_file.read_text().strip()
        if not limit.isdecimal() or int(limit) >= 1 << 60:
            return None
        statistics = (used_file.parent / "memory.stat").read_text().split()
        cache = dict(zip(statistics[::2], statistics[1::2], strict=False)).get(cache_key, "0")
        return max(0, int(limit) - int(used_file.read_text()) + int(cache))
    return None
