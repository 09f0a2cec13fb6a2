"""Training state goes to a checkpoint and comes back bit for bit, while training goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import steep.train.checkpoint as subject
from steep.artifacts.checkpoints import CheckpointCatalog
from steep.spec.errors import DamagedArtifact, InvalidModel, OutOfSpace
from steep.train.checkpoint import CheckpointWriter, load_average, load_checkpoint, load_weights, model_fingerprint
from steep.train.state import Progress, TrainingState


class Root(nn.Module):
    """What is trained: the language model with its loss."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(input_ids=ids, labels=ids).loss


def tiny(seed: int = 0, *, tied: bool = True, hidden: int = 32) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=hidden,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=tied,
        attention_dropout=0.1,
    )
    return LlamaForCausalLM(config).train()


def state_of(model: LlamaForCausalLM, *, fused: bool = True) -> TrainingState:
    root = Root(model)
    wide = [p for p in root.parameters() if p.ndim > 1]
    flat = [p for p in root.parameters() if p.ndim <= 1]
    groups = [{"params": wide, "weight_decay": 0.1}, {"params": flat, "weight_decay": 0.0}]
    return TrainingState(root, torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), fused=fused), Progress())


def train(state: TrainingState, steps: int) -> None:
    """Steps that use the generator for data and for dropout, change the rate, and keep an average."""
    for _ in range(steps):
        state.model(torch.randint(0, 96, (2, 12))).backward()
        for group in state.optimizer.param_groups:
            group["lr"] *= 0.9
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.progress.step += 1
        state.progress.tokens_seen += 24
        state.progress.cursor += 2
        state.progress.recent_losses.append(0.1 * state.progress.step)
        if state.average is None:
            state.average = {name: p.detach().clone() for name, p in state.model.named_parameters()}
        for name, parameter in state.model.named_parameters():
            state.average[name].lerp_(parameter.detach(), 0.25)


def everything(state: TrainingState) -> dict[str, Tensor]:
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    for name, parameter in state.model.named_parameters():
        tensors |= {f"{name}.{key}": value for key, value in state.optimizer.state[parameter].items()}
    tensors |= {f"average.{name}": value for name, value in (state.average or {}).items()}
    return {name: value.detach().clone() for name, value in tensors.items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype
        assert torch.equal(value, other[name]), name


@pytest.fixture
def catalog(tmp_path: Path) -> CheckpointCatalog:
    return CheckpointCatalog(tmp_path / "a run" / "checkpoints")


def writer_for(catalog: CheckpointCatalog) -> CheckpointWriter:
    return CheckpointWriter(catalog, spec_fingerprint="spec", order_fingerprint="order")


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The writer stands still before the first byte until the event is set."""
    go_on = threading.Event()
    original = subject.write_parts

    def write(*arguments: object) -> str:
        assert go_on.wait(30)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(subject, "write_parts", write)
    yield go_on
    go_on.set()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_resumed_training_is_bit_identical(catalog: CheckpointCatalog, tied: bool, fused: bool) -> None:
    state = state_of(tiny(tied=tied), fused=fused)
    train(state, 3)
    writer = writer_for(catalog)
    writer.save(state, facts={"precision": "fp32"}, metrics={"domain_bpb": 1.25})
    saved = writer.wait()
    assert saved is not None
    assert saved.manifest == catalog.verify(3)
    assert (saved.manifest.tokens_seen, saved.manifest.cursor, saved.manifest.metrics) == (72, 6, {"domain_bpb": 1.25})
    train(state, 3)

    other = state_of(tiny(seed=99, tied=tied), fused=fused)
    assert load_checkpoint(catalog, 3, other) == {"precision": "fp32"}
    assert other.progress.step == 3
    train(other, 3)
    assert other.progress == state.progress
    assert_same(everything(state), everything(other))
    assert state.optimizer.param_groups[0]["betas"] == other.optimizer.param_groups[0]["betas"] == (0.9, 0.95)


def test_training_goes_on_while_the_disk_is_slow_and_nothing_leaks(
    catalog: CheckpointCatalog, slow_disk: threading.Event
) -> None:
    state = state_of(tiny())
    train(state, 2)
    before = everything(state)
    writer = writer_for(catalog)
    writer.save(state, facts={})
    train(state, 2)
    assert catalog.list() == []
    assert writer.poll() is None
    slow_disk.set()
    saved = writer.wait()
    assert saved is not None
    assert saved.stall_seconds < 5
    assert not torch.equal(before["model.model.lm_head.weight"], everything(state)["model.model.lm_head.weight"])

    other = state_of(tiny(seed=5))
    load_checkpoint(catalog, 2, other)
    assert_same(before, everything(other))


def test_the_second_checkpoint_uses_the_memory_of_the_first(
    catalog: CheckpointCatalog, slow_disk: threading.Event
) -> None:
    state = state_of(tiny())
    writer = writer_for(catalog)
    addresses = []
    for _ in range(2):
        train(state, 1)
        slow_disk.clear()
        writer.save(state, facts={})
        expected = everything(state)
        train(state, 1)
        slow_disk.set()
        writer.wait()
        addresses.append([buffer.data_ptr() for _, buffer in sorted(writer._buffers.items())])
        other = state_of(tiny(seed=5))
        load_checkpoint(catalog, state.progress.step - 1, other)
        assert_same(expected, everything(other))
    assert set(addresses[0]) <= set(addresses[1])
    assert [manifest.step for manifest in catalog.list()] == [1, 3]
    assert catalog.get(3).parent is not None
    assert catalog.get(3).parent.identity == catalog.get(1).identity  # type: ignore[union-attr]


def test_weights_alone_load_into_the_plain_model(catalog: CheckpointCatalog) -> None:
    state = state_of(tiny())
    train(state, 1)
    writer = writer_for(catalog)
    writer.save(state, facts={})
    writer.wait()
    plain = tiny(seed=7)
    plain.load_state_dict(load_weights(catalog, 1), strict=True)
    assert_same(dict(state.model.model.state_dict()), dict(plain.state_dict()))
    average = load_average(catalog, 1)
    assert average is not None
    assert average.keys() == plain.state_dict().keys()


def test_only_what_is_trained_is_saved(catalog: CheckpointCatalog) -> None:
    model = tiny(tied=False)
    for parameter in model.model.parameters():
        parameter.requires_grad_(False)
    state = TrainingState(model, torch.optim.AdamW(model.lm_head.parameters()), Progress())
    writer = writer_for(catalog)
    writer.save(state, facts={})
    writer.wait()
    assert list(load_weights(catalog, 0)) == ["lm_head.weight"]


def test_another_model_is_refused_by_name(catalog: CheckpointCatalog) -> None:
    state = state_of(tiny())
    writer = writer_for(catalog)
    writer.save(state, facts={})
    writer.wait()
    assert catalog.get(0).model_fingerprint == model_fingerprint(state.model)
    wider = state_of(tiny(hidden=64))
    assert catalog.get(0).model_fingerprint != model_fingerprint(wider.model)
    with pytest.raises(InvalidModel, match=r"embed_tokens\.weight is \(96, 32\).* and \(96, 64\)"):
        load_checkpoint(catalog, 0, wider)


def test_a_damaged_byte_is_refused(catalog: CheckpointCatalog) -> None:
    state = state_of(tiny())
    writer = writer_for(catalog)
    writer.save(state, facts={})
    writer.wait()
    file = catalog.path(0) / "weights-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    for read in (lambda: load_checkpoint(catalog, 0, state), lambda: load_weights(catalog, 0)):
        with pytest.raises(DamagedArtifact, match="weights-00000"):
            read()


def test_a_full_disk_is_said_later_and_the_old_checkpoint_stays(
    catalog: CheckpointCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_of(tiny())
    writer = writer_for(catalog)
    writer.save(state, facts={})
    writer.wait()
    train(state, 1)

    def full(*_: object) -> str:
        raise OutOfSpace("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(subject, "write_parts", full)
        writer.save(state, facts={})
        with pytest.raises(OutOfSpace):
            writer.wait()
    assert catalog.steps() == [0]
    assert not list(catalog.directory.glob(".staging-*"))
    writer.save(state, facts={})
    writer.wait()
    assert catalog.steps() == [0, 1]


def test_files_are_plain_safetensors_that_dcp_reads_too(catalog: CheckpointCatalog) -> None:
    import torch.distributed.checkpoint as dcp
    from safetensors.torch import load_file

    state = state_of(tiny(tied=False))
    train(state, 1)
    writer = writer_for(catalog)
    writer.save(state, facts={})
    writer.wait()
    expected = dict(state.model.model.state_dict())
    assert_same(expected, load_file(catalog.path(1) / "weights-00000.safetensors"))
    target = {name: torch.zeros_like(value) for name, value in expected.items()}
    reader = dcp.HuggingFaceStorageReader(str(catalog.path(1)))
    with pytest.warns(UserWarning, match="single process"):
        dcp.load(target, storage_reader=reader, no_dist=True)
    assert_same(expected, target)
    assert not any(path.suffix in (".pt", ".pkl", ".distcp", ".metadata") for path in catalog.path(1).iterdir())
    json.loads((catalog.path(1) / "training.json").read_bytes())
