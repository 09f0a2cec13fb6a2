"""Tensor files: shards of any layout become whole tensors, and nothing else is believed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.files import hash_file
from steep.spec.errors import DamagedArtifact, OutOfSpace
from steep.train.checkpoint import CheckpointWriter, load_checkpoint, load_weights
from steep.train.snapshot import PIECE_BYTES, Snapshot, as_bytes
from steep.train.state import Progress, TrainingState
from steep.train.tensorfile import Part, TensorFiles, plan_parts, read_header, write_parts


def feed(part: Part, consume: Callable[[memoryview], None]) -> None:
    consume(memoryview(as_bytes(part.tensor.contiguous()).numpy()))


def test_every_type_and_shape_comes_back(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(7.0),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "empty": torch.empty(0, 4),
        "half": torch.randn(3, 5).to(torch.bfloat16),
        "double": torch.randn(2, 2, dtype=torch.float64),
        "truth": torch.tensor([True, False, True]),
        "turned": torch.randn(4, 6).T,
        "strange": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
    }
    path = tmp_path / "a.safetensors"
    digest = write_parts(path, plan_parts(tensors), feed, {"note": "yes"})
    assert digest == hash_file(path)
    files = TensorFiles([path])
    assert files.notes == {"format": "pt", "note": "yes"}
    for name, value in tensors.items():
        read = files.read(name)
        assert read.dtype == value.dtype
        assert torch.equal(as_bytes(read.contiguous()), as_bytes(value.contiguous())), name


def test_shards_of_several_processes_reshard(tmp_path: Path) -> None:
    whole = torch.randn(10, 6)
    cuts = [(0, 4), (4, 7), (7, 10)]
    for rank, (start, end) in enumerate(cuts):
        part = Part("weight", (start, 0), whole[start:end])
        write_parts(tmp_path / f"weights-{rank:05d}.safetensors", [part], feed)
    files = TensorFiles(sorted(tmp_path.iterdir()))
    assert torch.equal(files.read("weight"), whole)
    target = torch.zeros(10, 6)
    files.load_into({"weight": target})
    assert torch.equal(target, whole)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[dist.DeviceMesh]:
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "rendezvous"), 1), rank=0, world_size=1)
    try:
        yield dist.device_mesh.init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


def test_a_sharded_model_goes_to_a_plain_one_and_back(tmp_path: Path, one_process: dist.DeviceMesh) -> None:
    from torch.distributed.fsdp import fully_shard

    def model(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 8), nn.Linear(8, 11))

    def state_of(module: nn.Module) -> TrainingState:
        return TrainingState(module, torch.optim.AdamW(module.parameters(), lr=1e-2), Progress())

    def step(state: TrainingState) -> None:
        state.model(torch.arange(11)).square().mean().backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.progress.step += 1

    def full(tensor: Tensor) -> Tensor:
        return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor

    sharded = model(0)
    for layer in sharded:
        fully_shard(layer, mesh=one_process)
    fully_shard(sharded, mesh=one_process)
    state = state_of(sharded)
    step(state)
    catalog = CheckpointCatalog(tmp_path / "checkpoints")
    writer = CheckpointWriter(catalog, spec_fingerprint="s", order_fingerprint="o")
    writer.save(state, facts={})
    step(state)
    writer.wait()

    plain = state_of(model(1))
    load_checkpoint(catalog, 1, plain)
    again = model(2)
    for layer in again:
        fully_shard(layer, mesh=one_process)
    fully_shard(again, mesh=one_process)
    resumed = state_of(again)
    load_checkpoint(catalog, 1, resumed)
    assert load_weights(catalog, 1).keys() == dict(plain.model.named_parameters()).keys()
    for name, weight in plain.model.named_parameters():
        assert torch.equal(full(again.get_parameter(name).detach()), weight.detach()), name
    step(plain)
    step(resumed)
    for name, weight in state.model.named_parameters():
        assert torch.equal(full(weight.detach()), plain.model.get_parameter(name).detach()), name
        assert torch.equal(full(weight.detach()), full(again.get_parameter(name).detach())), name


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x04K\x01.", (1 << 60).to_bytes(8, "little"), b"\x02\0\0\0\0\0\0\0[]", b'\x09\0\0\0\0\0\0\0{"a": {}}'],
)
def test_what_is_no_tensor_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(DamagedArtifact, match=r"weights\.safetensors"):
        read_header(path)


def test_a_full_disk_in_the_middle_of_a_file(tmp_path: Path) -> None:
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OutOfSpace):
        write_parts(device, plan_parts({"a": torch.zeros(4)}), feed)


def test_training_waits_for_one_piece_and_a_copy_not_for_the_disk() -> None:
    live, small = torch.zeros(8 * PIECE_BYTES, dtype=torch.uint8), torch.ones(4)
    snapshot = Snapshot([live, small], {})
    written: list[bytes] = []
    first_piece, seen_when_frozen = threading.Event(), []

    def disk(piece: memoryview) -> None:
        written.append(bytes(piece))
        first_piece.set()
        time.sleep(0.02)

    def write() -> None:
        snapshot.feed(0, disk)
        snapshot.feed(1, disk)

    writer = threading.Thread(target=write)
    writer.start()
    first_piece.wait()
    snapshot.freeze()
    seen_when_frozen.append(len(written))
    live.fill_(1)
    small.zero_()
    writer.join()
    assert seen_when_frozen[0] <= 3
    assert b"".join(written) == bytes(8 * PIECE_BYTES) + torch.ones(4).numpy().tobytes()
