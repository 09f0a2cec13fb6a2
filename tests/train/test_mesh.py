import importlib
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor
from torch.multiprocessing import spawn

from steep.train.mesh import blocks, device_mesh, local, set_last_microbatch, shard
from steep.train.optimizer import apply_update, gradient_norm, make_optimizer

CPU = torch.device("cpu")


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.linear(x).tanh()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(16) for _ in range(3))
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(self.head.weight.dtype)
        for layer in self.layers:
            x = layer(x)
        return self.head(x).float().square().sum()


def make_net() -> Net:
    torch.manual_seed(0)
    return Net()


def gradients(net: nn.Module, batches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    for number, batch in enumerate(batches, start=1):
        set_last_microbatch(net, number == len(batches))
        net(batch).backward()
    return {name: local(parameter.grad) for name, parameter in net.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 3e-2)])
def test_gradients_are_those_of_a_plain_model(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(1)
    batches = [torch.randn(5, 16), torch.randn(3, 16)]
    expected = gradients(make_net(), batches)
    with device_mesh(CPU) as mesh:
        net = shard(make_net(), mesh, dtype)
        found = gradients(net, batches)
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            assert gradient.dtype == torch.float32
            assert float((gradient - expected[name]).norm() / expected[name].norm()) < tolerance
        assert all(local(parameter).dtype == torch.float32 for parameter in net.parameters())


def updated(net: nn.Module) -> list[torch.Tensor]:
    """What three updates make of the weights, each scaled by the norm of its gradient."""
    torch.manual_seed(1)
    batch = torch.randn(5, 16)
    optimizer = make_optimizer(net, betas=(0.9, 0.95), weight_decay=0.1)
    for step in range(3):
        gradients(net, [batch])
        scale = 1.0 / float(gradient_norm(net.parameters()))
        apply_update(optimizer, rate=1e-2 * (step + 1), gradient_scale=scale)
        optimizer.zero_grad()
    whole = [parameter.detach() for parameter in net.parameters()]
    return [each.full_tensor() if isinstance(each, DTensor) else each.clone() for each in whole]


def test_one_process_in_fp32_holds_each_weight_once() -> None:
    with device_mesh(CPU) as mesh:
        net = make_net()
        weights = list(net.parameters())
        assert all(
            one is other for one, other in zip(shard(net, mesh, torch.float32).parameters(), weights, strict=True)
        )
        assert all(isinstance(weight, DTensor) for weight in shard(make_net(), mesh, torch.bfloat16).parameters())


def update_in_one_of_two(rank: int, port: int, out: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    with device_mesh(CPU) as mesh:
        found = updated(shard(make_net(), mesh, torch.float32))
        if rank == 0:
            torch.save(found, out)


def test_updates_in_two_processes_are_those_of_a_plain_model(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(update_in_one_of_two, args=(port, str(tmp_path / "weights")), nprocs=2)
    for one, other in zip(torch.load(tmp_path / "weights"), updated(make_net()), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_an_update_is_arithmetic_on_plain_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """With sharded ones, the first update of a process took seconds."""
    kinds: set[type] = set()
    module = importlib.import_module("torch.optim.adam")
    plain = module.adam

    def recording(*lists: list[torch.Tensor], **settings: object) -> None:
        kinds.update(type(tensor) for tensors in lists for tensor in tensors)
        plain(*lists, **settings)

    monkeypatch.setattr(module, "adam", recording)
    with device_mesh(CPU) as mesh:
        net = shard(make_net(), mesh, torch.bfloat16)
        assert all(isinstance(parameter, DTensor) for parameter in net.parameters())
        updated(net)
    assert kinds
    assert not any(issubclass(kind, DTensor) for kind in kinds)


def test_the_process_group_lives_as_long_as_the_mesh() -> None:
    for _ in range(2):
        with device_mesh(CPU) as mesh:
            assert mesh.size() == 1
            assert dist.is_initialized()
        assert not dist.is_initialized()


def test_blocks_are_the_outermost_list() -> None:
    net = make_net()
    assert blocks(net) == list(net.layers)
    for layer in net.layers:
        layer.experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(9))
    assert blocks(net) == list(net.layers)


def test_only_matrices_decay() -> None:
    optimizer = make_optimizer(make_net(), betas=(0.9, 0.95), weight_decay=0.1)
    decays = {group["weight_decay"]: {p.dim() for p in group["params"]} for group in optimizer.param_groups}
    assert decays == {0.1: {2}, 0.0: {1}}
