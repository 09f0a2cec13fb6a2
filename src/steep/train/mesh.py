"""FSDP2 over a device mesh, with one process or many: the code that trains is the same.

Parameters are fp32 shards; each block is gathered in the precision of the computation when it is needed, and its
gradients come back in fp32. With one process a shard is the whole weight and gathering it is the cast that mixed
precision needs anyway. Where nothing is to be cast either, weights are left as they are: gathering would hold each of them
twice, 10 bytes a parameter with its gradient, and take a third of a short step's time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

DATA = "data"


@contextmanager
def device_mesh(device: torch.device) -> Iterator[DeviceMesh]:
    """The mesh of all processes of this job, for as long as it trains.

    A launcher such as torchrun says by environment variables which process this is; without one there is a single
    process, which needs no port and no file to meet itself.
    """
    ours = not dist.is_initialized()
    if ours:
        backend = "nccl" if device.type == "cuda" else "gloo"
        if "RANK" in os.environ:
            dist.init_process_group(backend)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh(device.type, (dist.get_world_size(),), mesh_dim_names=(DATA,))
    finally:
        if ours:
            dist.destroy_process_group()


def shard(model: nn.Module, mesh: DeviceMesh, dtype: torch.dtype) -> nn.Module:
    """Shard a model in place over the mesh: every transformer block by itself, the rest with the root.

    Gathered weights are kept between forward and backward pass, and through all microbatches of a step. In one process that
    computes in fp32 there is nothing to do.

    Args:
        model: the root that is called to train.
        mesh: of `device_mesh`.
        dtype: of the computation; parameters and gradients stay fp32.
    """
    if mesh.size() == 1 and dtype == torch.float32:
        return model
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks(model):
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    return model


def blocks(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks: the first list of modules met from the outside inwards, so not the experts inside one."""
    return next((list(part) for part in model.modules() if isinstance(part, nn.ModuleList)), [])


def set_last_microbatch(model: nn.Module, last: bool) -> None:
    """Reduce gradients and free gathered weights only after the last microbatch of a step."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
        model.set_reshard_after_backward(last)


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, sharing its memory; a plain tensor is all there."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()
