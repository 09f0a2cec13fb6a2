import os
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


TRAINED = """
import gc, sys
import numpy as np, torch
from transformers import LlamaConfig, LlamaForCausalLM
from steep.model.attention import register
from steep.model.batch import pack
from steep.model.loss import LanguageModelLoss
from steep.planning.facts import Facts
from steep.planning.memory import estimate
from steep.train.memory import peak_bytes
from steep.train.mesh import device_mesh, shard
from steep.train.optimizer import apply_update, make_optimizer

name, (hidden, inner, layers) = sys.argv[1], map(int, sys.argv[2:])
torch.set_num_threads(1)
config = LlamaConfig(vocab_size=512, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
                     num_attention_heads=8, num_key_value_heads=8, tie_word_embeddings=True)
ids = np.arange(1, 33)
with device_mesh(torch.device("cpu")) as mesh:
    model = LlamaForCausalLM._from_config(config, attn_implementation=register())
    parameters = model.num_parameters()
    before = int(open("/proc/self/status").read().partition("VmRSS:")[2].split()[0]) * 1024 - 4 * parameters
    loss = shard(LanguageModelLoss(model), mesh, torch.bfloat16 if name == "bf16" else torch.float32)
    optimizer = make_optimizer(loss, betas=(0.9, 0.95), weight_decay=0.1)
    for _ in range(3):
        nats, _ = loss(pack([(ids, ids)]))
        nats.backward()
        apply_update(optimizer, rate=1e-4, gradient_scale=1.0)
        optimizer.zero_grad(set_to_none=True)
facts = Facts(parameters=parameters, hidden_size=hidden, intermediate_size=inner, num_layers=layers, vocab_size=512,
              context_tokens=512, train_tokens=10**6, memory_bytes=10**11)
plan = estimate(facts, microbatch_tokens=32, precision=name, activation_checkpointing=False)
print(peak_bytes(torch.device("cpu")) - before, plan.total)
"""


def trained(precision: str, *shape: int) -> tuple[int, int]:
    """Bytes that training took at most, and bytes that were planned."""
    command = [sys.executable, "-c", TRAINED, precision, *map(str, shape)]
    # large blocks go back to the system when they are freed, so that the peak is that of the tensors and not of a heap's holes
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200, env=environment)
    used, planned = map(int, done.stdout.split())
    return used, planned


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_takes_what_was_planned(precision: str) -> None:
    """Of a larger model and a smaller one, so that what libraries take does not count."""
    (large, plan_of_large), (small, plan_of_small) = trained(precision, 512, 1376, 8), trained(precision, 256, 688, 8)
    assert 0.75 < (large - small) / (plan_of_large - plan_of_small) < 1.05
