import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from steep.train.memory import _container_room_bytes, available_bytes, peak_bytes

CPU = torch.device("cpu")


def test_no_more_than_the_machine_has() -> None:
    assert 0 < available_bytes(CPU) <= psutil.virtual_memory().total


def test_the_peak_grows_with_what_is_used() -> None:
    before = peak_bytes(CPU)
    block = torch.ones(64 << 20, dtype=torch.uint8)
    assert peak_bytes(CPU) >= max(before, block.numel())
    assert peak_bytes(CPU) >= psutil.Process().memory_info().rss * 0.9


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 400000\ninactive_file 250000\n")
    assert _container_room_bytes(tmp_path) == 1_000_000 - 700_000 + 250_000


def test_no_limit(tmp_path: Path) -> None:
    assert _container_room_bytes(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700000\n")
    assert _container_room_bytes(tmp_path) is None


def test_the_older_layout(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    (memory / "memory.limit_in_bytes").write_text("5000\n")
    (memory / "memory.usage_in_bytes").write_text("2000\n")
    (memory / "memory.stat").write_text("cache 900\ntotal_inactive_file 500\n")
    assert _container_room_bytes(tmp_path) == 3500


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's malloc")
def test_freed_memory_is_kept() -> None:
    """The pages of large tensors come from the system once, not at each step."""
    script = (
        "import resource, sys, torch\n"
        "from steep.train.memory import keep_freed_memory\n"
        "if sys.argv[1] == 'keep': assert keep_freed_memory(torch.device('cpu'))\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): torch.ones(16 << 20)  # until the heap has room\n"
        "before = faults()\n"
        "for _ in range(10): torch.ones(16 << 20)\n"
        "print(faults() - before)"
    )
    found = {
        how: int(subprocess.run([sys.executable, "-c", script, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "default")
    }
    assert found["keep"] * 10 < found["default"], found
