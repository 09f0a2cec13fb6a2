"""`make bench-gpu`: Steep beside Hugging Face's Trainer on a CUDA device, as a table in docs/benchmarks.md.

A Llama of 1.2B parameters in bf16, 4096 tokens a sequence: tokens/s, MFU and peak memory, with torch's own flash attention
(SDPA), with Liger's kernels, and with flash-attn where the peers' environment holds it. Without a CUDA device it says so.

    python benchmarks/gpu.py [--repeats N] [--sequences N] [--peers PYTHON] [--json PATH]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from bench import PAGE, tell
from comparison import material, runner, tables
from comparison.material import Shape
from comparison.peers import compile_bytecode, make_environment
from comparison.rows import Comparison, Measurement, Metric, Row
from comparison.training import Work, steep, trainer

SHAPE = Shape("1b", "1.2B parameters", 2048, 16, 32, 8, 8192, 128256)
SEQUENCE_TOKENS = 4096
STEPS, WARM_STEPS = 10, 3
CPU_THREADS = 4
SPEED = Metric("tokens_per_second", "training", "tokens/s", more_is_better=True)
MFU = Metric("mfu", "model FLOPs utilisation", "%", more_is_better=True, per=0.01)
PEAK = Metric("peak_bytes", "peak memory of the device", "GB", per=1e9)


def main() -> int:
    """Measure where there is a device, and write the table."""
    options = _options()
    import torch

    if not torch.cuda.is_available():
        print("make bench-gpu needs a CUDA device, and there is none; nothing was measured.")
        return 0
    peers = options.peers or make_environment("peers-gpu.txt")
    if options.peers is None:  # an interpreter of the user's is left as it is
        for interpreter in (Path(sys.executable), peers):
            compile_bytecode(interpreter)
    row = gpu_row(options.sequences, has_flash_attention=_has(peers, "flash_attn"))
    print(f"=== {row.name}: {row.title}", flush=True)
    measured = [
        with_mfu(found) for found in runner.in_turns(row, options.repeats, threads=CPU_THREADS, tell=tell, peers=peers)
    ]
    shown = tables.tables(row, measured)
    print("\n" + shown)
    command = f"python benchmarks/gpu.py --repeats {options.repeats} --sequences {options.sequences}"
    setting = f"{torch.cuda.get_device_name()}, torch {version('torch')}, text of {material.describe()}."
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(tables.put_between(text, row.name, f"{row.title}.\n\n{shown}\n`{command}`; {setting}"), "utf-8")
    if options.json:
        runner.save(options.json, measured)
    return 0


def gpu_row(microbatch_sequences: int, *, has_flash_attention: bool) -> Row:
    """The row; a step is four microbatches."""
    work = Work(
        SHAPE, SEQUENCE_TOKENS, 4 * microbatch_sequences, microbatch_sequences, steps=STEPS, warm_steps=WARM_STEPS,
        total_steps=STEPS + 1, device="cuda", half=True,
    )  # fmt: skip
    ours = steep(work, "bf16", compiled=True)
    peers = [trainer(work, "bf16", "sdpa", liger=True), trainer(work, "bf16", "sdpa")]
    if has_flash_attention:
        peers.append(trainer(work, "bf16", "flash_attention_2", liger=True))
    comparisons = tuple(
        comparison
        for peer in peers
        for comparison in (
            Comparison("tokens/s", SPEED, ours.name, peer.name, "times"),
            Comparison("memory", PEAK, ours.name, peer.name, "share"),
        )
    )
    title = f"Training, {SHAPE.label}, {SEQUENCE_TOKENS} tokens a sequence, {microbatch_sequences} a microbatch, bf16"
    return Row("gpu", title, (ours, *peers), (SPEED, MFU, PEAK), comparisons)


def with_mfu(found: Measurement) -> Measurement:
    """The same with the share of the device's peak that the speed amounts to; the same arithmetic for every side."""
    import torch
    from transformers import LlamaConfig

    from steep.model.flops import flops_per_token, peak_flops

    peak = peak_flops(torch.device("cuda"))
    if not peak:
        return found
    flops = flops_per_token(LlamaConfig(**SHAPE.config(SEQUENCE_TOKENS)), SEQUENCE_TOKENS)
    return replace(found, values={**found.values, "mfu": found.values["tokens_per_second"] * flops / peak})


def _has(interpreter: Path, module: str) -> bool:
    command = [str(interpreter), "-c", f"import {module}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each side")
    parser.add_argument("--sequences", type=int, default=2, help="sequences of a microbatch; a step has four of them")
    parser.add_argument("--peers", type=Path, help="interpreter with the peers; by default an environment is made")
    parser.add_argument("--json", type=Path, help="write the measurements there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
