"""The rows of `make bench`, in the order of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comparison import material
from comparison.material import Shape
from comparison.rows import Comparison, Metric, Row, Side
from comparison.training import Work, steep, trainer

WORKERS = 2
SPEED = Metric("tokens_per_second", "training", "tokens/s", more_is_better=True)
SECONDS = Metric("seconds", "whole process", "s")
TOKENS = Metric("tokens", "EOS included", "tokens")
PEAK = Metric("peak_bytes", "peak memory, a checkpoint included", "MB", per=1e6)
PEAK_STEPS = Metric("peak_without_save_bytes", "peak memory, before any checkpoint", "MB", per=1e6)
STALL = Metric("stall_seconds", "training stands still", "s a checkpoint")
FIRST_STALL = Metric("first_stall_seconds", "the same, first checkpoint", "s")
DRAG = Metric("drag_seconds", "later steps are slower, together", "s a checkpoint")
FIRST_STEP = Metric("first_step_seconds", "process start to end of first step", "s")
LOSS = Metric("loss", "loss", "nats")


@dataclass(frozen=True)
class Size:
    """How much is done.

    Args:
        text_bytes: of jsonl.
        small, large: the models.
        small_sequences, large_sequences: of a step; the large one's microbatch is the whole step.
        steps: measured of the small model; half of it of the large one.
        curve_steps: of the loss curve.
    """

    text_bytes: int
    small: Shape
    large: Shape
    small_sequences: int = 16
    large_sequences: int = 4
    steps: int = 12
    curve_steps: int = 300


FULL = Size(
    text_bytes=90_000_000,
    small=Shape("8m", "8M parameters", 256, 8, 4, 4, 640, 8192),
    large=Shape("135m", "135M parameters", 576, 30, 9, 3, 1536, 49152),
)
QUICK = Size(
    text_bytes=2_000_000,
    small=Shape("quick-small", "a toy", 64, 2, 2, 2, 128, 8192),
    large=Shape("quick-large", "a larger toy", 96, 3, 3, 1, 256, 8192),
    small_sequences=4,
    large_sequences=2,
    steps=6,
    curve_steps=20,
)


def rows(size: Size) -> list[Row]:
    """Every row, at a size."""
    return [
        tokenizing(size),
        speed("train-8m", size.small, size.small_sequences, size.steps, goal=1.5),
        speed("train-135m", size.large, size.large_sequences, size.steps // 2, goal=1.3),
        loss(size),
        memory("memory-8m", size.small, size.small_sequences),
        memory("memory-135m", size.large, size.large_sequences),
        checkpoints(size),
        start(size),
    ]


def tokenizing(size: Size) -> Row:
    """jsonl to token shards."""

    def told(**more: Any) -> Mapping[str, Any]:
        files = [str(path) for path in material.jsonl(size.text_bytes)]
        return {"files": files, "tokenizer": str(material.gpt2_tokenizer()), "workers": WORKERS, **more}

    def prepares(*, standard: bool) -> Side:
        name, label = ("steep-standard", "Steep, cleaning and dedup too") if standard else ("steep", "Steep")
        cleaning = "standard" if standard else "none"
        return Side(name, label, "steep_prepare", lambda: told(cleaning=cleaning, dedup=standard))

    sides = (
        prepares(standard=False),
        Side("datasets", "datasets, map and group", "hf_datasets", told, peer=True),
        Side("datatrove", "datatrove", "datatrove_tokens", lambda: told(eos_token=material.EOS), peer=True),
        prepares(standard=True),
    )
    comparisons = (
        Comparison("time", SECONDS, "steep", "datasets", "times", 15),
        Comparison("time", SECONDS, "steep", "datatrove", "times", 10),
        Comparison("time", SECONDS, "steep-standard", "datasets", "times"),
        Comparison("time", SECONDS, "steep-standard", "datatrove", "times"),
        Comparison("tokens, which must be the same", TOKENS, "steep", "datasets", "share"),
        Comparison("tokens, which must be the same", TOKENS, "steep", "datatrove", "share"),
    )
    title = f"jsonl to token shards, {size.text_bytes / 1e6:.0f} MB, {WORKERS} workers"
    return Row("tokenize", title, sides, (SECONDS, TOKENS), comparisons)


def speed(name: str, shape: Shape, sequences: int, steps: int, *, goal: float) -> Row:
    """Training tokens per second, beside every way in which the peer could be set up."""
    work = Work(shape, 512, sequences, min(sequences, 8), steps=steps + 2, warm_steps=2, total_steps=steps + 3)
    peers = [trainer(work, precision, attention) for precision in ("bf16", "fp32") for attention in ("eager", "sdpa")]
    ours = steep(work)
    comparisons = tuple(
        Comparison("tokens/s", SPEED, ours.name, peer.name, "times", goal if peer is peers[0] else None)
        for peer in peers
    )
    title = f"Training, {shape.label}, 512 tokens a sequence"
    return Row(name, title, (ours, *peers), (SPEED,), comparisons)


def loss(size: Size) -> Row:
    """The loss at each step, of the same sequences in the same order; most of them hold several documents."""
    warmup = max(2, size.curve_steps // 10)
    work = Work(
        size.small, 512, 8, 8, steps=size.curve_steps, warm_steps=2, total_steps=size.curve_steps + 1,
        warmup_steps=warmup, decay_steps=size.curve_steps // 5, peak_rate=1e-3, text="paragraphs",
    )  # fmt: skip
    ours, theirs = steep(work, "fp32"), trainer(work, "fp32", "eager", within_documents=True)
    comparison = Comparison("loss, worst step", LOSS, ours.name, theirs.name, "curve", 0.01, first=warmup)
    title = f"Loss at each of {size.curve_steps} steps, {size.small.label}, fp32"
    return Row("loss", title, (ours, theirs), (), (comparison,), repeats=1)


def memory(name: str, shape: Shape, sequences: int) -> Row:
    """The most memory that the process holds, in bf16: while it trains, and with one checkpoint saved."""
    work = Work(
        shape, 512, sequences, min(sequences, 8), steps=5, warm_steps=0, total_steps=300, save_steps=3,
        steps_before_save=3,
    )  # fmt: skip
    ours = steep(work, "bf16")
    peers = (trainer(work, "bf16", "eager"), trainer(work, "bf16", "sdpa"))
    comparisons = tuple(
        Comparison(metric.label, metric, ours.name, peer.name, "share", 1.0 if peer is peers[0] else None)
        for metric in (PEAK_STEPS, PEAK)
        for peer in peers
    )
    return Row(name, f"Memory, {shape.label}, bf16", (ours, *peers), (PEAK_STEPS, PEAK), comparisons)


def checkpoints(size: Size) -> Row:
    """How long training stands still for a checkpoint of weights and optimizer.

    What is saved is the same in bf16, since weights and Adam's state are kept in fp32; in fp32 the steps between are quick on
    any processor.
    """
    work = Work(size.large, 512, 1, 1, steps=14, warm_steps=1, total_steps=400, save_steps=4)
    ours, theirs = steep(work, "fp32"), trainer(work, "fp32", "sdpa")
    comparisons = (Comparison("standstill", STALL, ours.name, theirs.name, "share", 0.5),)
    title = f"A checkpoint in mid-training, {size.large.label} and Adam"
    return Row("checkpoint-135m", title, (ours, theirs), (STALL, FIRST_STALL, DRAG), comparisons)


def start(size: Size) -> Row:
    """From the start of the process to the end of the first step.

    The peer goes its quickest way: in bf16 its first step takes two minutes on a processor without instructions for it.
    """
    work = Work(size.large, 512, 1, 1, steps=1, warm_steps=0, total_steps=100)
    ours, theirs = steep(work), trainer(work, "fp32", "sdpa")
    comparisons = (Comparison("time", FIRST_STEP, ours.name, theirs.name, "share", 0.7),)
    return Row("start-135m", f"Cold start, {size.large.label}", (ours, theirs), (FIRST_STEP,), comparisons)
