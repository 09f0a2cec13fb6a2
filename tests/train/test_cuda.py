"""Training on a GPU: it learns, checkpoints hold what was there, resume is exact, and memory is as planned."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.conftest import order_of
from tests.train.helpers import MakeSetup, Recorder, assert_equal, stop_after, weights_of

from steep.artifacts.tokens import TokenDataset
from steep.planning.facts import Facts
from steep.planning.memory import estimate
from steep.spec.errors import Stopped
from steep.spec.job import Lora
from steep.train.observer import Silent
from steep.train.schedule import Schedule
from steep.train.setup import TrainingSetup
from steep.train.snapshot import Snapshot
from steep.train.trainer import train

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda", 0)


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels that add in the same order each time; the usual ones of attention do not."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_learns_what_it_learns_on_the_cpu(make_setup: MakeSetup, precision: Any) -> None:
    schedule = Schedule(1e-2, 60, warmup_steps=3, decay_steps=12)
    losses = []
    for device in (CUDA, torch.device("cpu")):
        heard = Recorder()
        train(make_setup(device.type, device=device, precision=precision, schedule=schedule), heard)
        losses.append([report.loss for report in heard.steps])
    assert losses[0][:3] == pytest.approx(losses[1][:3], rel=2e-3)
    assert sum(losses[0][-5:]) == pytest.approx(sum(losses[1][-5:]), rel=2e-2)
    assert sum(losses[0][-5:]) / 5 < losses[0][0] - 0.5


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("changes", [{}, {"lora": Lora(rank=4)}, {"distill": 0.5, "replay": frozenset({"replay"})}])
def test_resume_is_exact(make_setup: MakeSetup, precision: Any, changes: dict[str, Any]) -> None:
    settings = {"device": CUDA, "precision": precision, "average_steps": 6, "microbatch_sequences": 2, **changes}
    whole = make_setup("whole", **settings)
    train(whole, Silent())
    parts = make_setup("parts", **settings)
    with pytest.raises(Stopped):
        train(parts, Silent(), stop_after(7))
    train(parts, Silent())
    assert_equal(weights_of(parts, 20), weights_of(whole, 20))


@pytest.mark.usefixtures("deterministic")
def test_checkpoints_written_beside_the_computation_hold_what_was_there(make_setup: MakeSetup) -> None:
    often = make_setup("often", device=CUDA, precision="bf16", checkpoint_every_steps=3)
    train(often, Silent())
    for steps in (step for step in often.checkpoints.steps() if step < 20):
        short = make_setup(f"short-{steps}", device=CUDA, precision="bf16")
        with pytest.raises(Stopped):
            train(short, Silent(), stop_after(steps))
        assert_equal(weights_of(often, steps), weights_of(short, steps))


def test_a_snapshot_is_of_the_moment_it_was_taken() -> None:
    live = [torch.arange(n, dtype=torch.float32, device=CUDA) for n in (7, 40_000_000, 1)]
    wanted = [tensor.cpu().clone() for tensor in live]
    for _ in range(2):
        snapshot = Snapshot(live, {})
        pieces: dict[int, bytearray] = {index: bytearray() for index in range(3)}

        def write(taken: Snapshot = snapshot, into: dict[int, bytearray] = pieces) -> None:
            for index in into:
                taken.feed(index, into[index].extend)

        writer = threading.Thread(target=write)
        writer.start()
        snapshot.freeze()
        for tensor in live:
            tensor.mul_(-3)
        writer.join()
        for index, tensor in enumerate(wanted):
            assert torch.equal(torch.frombuffer(pieces[index], dtype=torch.float32), tensor)
        wanted = [tensor.cpu().clone() for tensor in live]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("changes", [{"activation_checkpointing": True}, {"compile": True}])
def test_what_saves_memory_or_time_changes_no_result(make_setup: MakeSetup, changes: dict[str, Any]) -> None:
    heard = []
    for number, some in enumerate(({}, changes)):
        setup = make_setup(str(number), device=CUDA, precision="bf16", microbatch_sequences=2, **some)
        heard.append(Recorder())
        train(setup, heard[-1])
    plain, other = ([report.loss for report in one.steps] for one in heard)
    assert other == pytest.approx(plain, rel=5e-3)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_is_as_planned(
    datasets: dict[str, TokenDataset], make_setup: MakeSetup, tmp_path: Path, checkpointing: bool
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from steep.model.load import load_model

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=8, num_attention_heads=16, num_key_value_heads=8,
        vocab_size=32000, max_position_embeddings=1024, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    parameters = model.num_parameters()
    model.save_pretrained(tmp_path / "larger")
    del model
    setup: TrainingSetup = make_setup(
        device=CUDA, precision="bf16", load_model=lambda: load_model(str(tmp_path / "larger")),
        order=order_of(datasets, 1024), sequences_per_step=16, microbatch_sequences=8, schedule=Schedule(1e-4, 4),
        activation_checkpointing=checkpointing,
    )  # fmt: skip
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    train(replace(setup, checkpoint_every_steps=None), Silent())
    used = torch.cuda.max_memory_allocated() - held
    facts = Facts(
        parameters=parameters, hidden_size=1024, intermediate_size=4096, num_layers=8, vocab_size=32000, context_tokens=1024,
        train_tokens=10**6, device="cuda", memory_bytes=80 * 10**9,
    )  # fmt: skip
    planned = estimate(facts, microbatch_tokens=8192, precision="bf16", activation_checkpointing=checkpointing).total
    print(f"used {used / 1e9:.2f} GB, planned {planned / 1e9:.2f} GB")
    assert 0.6 * planned < used < 1.05 * planned
