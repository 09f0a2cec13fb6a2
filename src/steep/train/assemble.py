"""From a base model to something that trains: adapters, precision, shards, optimizer."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.utils.checkpoint import checkpoint

from steep.model.attention import load_kernel
from steep.model.loss import LanguageModelLoss
from steep.train.mesh import blocks, local, shard
from steep.train.optimizer import make_optimizer
from steep.train.precision import Precision
from steep.train.setup import TrainingSetup
from steep.train.state import Progress, TrainingState
from steep.train.teacher import Teacher

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Trainee:
    """A model in training.

    Args:
        loss: called with a batch, gives `(sum of nats, labels)`; the root of the shards.
        state: what checkpoints hold; its model is the one inside `loss`.
        plain: the same weights in an unsharded fp32 model, which hold-outs are scored with.
        precision: of the computation.
        teacher: the base, where it teaches at replay text.
    """

    loss: nn.Module
    state: TrainingState
    plain: PreTrainedModel
    precision: Precision
    teacher: Teacher | None = None

    @property
    def trainable(self) -> list[nn.Parameter]:
        """The weights that are trained."""
        return [parameter for parameter in self.loss.parameters() if parameter.requires_grad]


def assemble(setup: TrainingSetup, mesh: DeviceMesh, precision: Precision) -> Trainee:
    """Load the base and make it ready to train, at step 0."""
    model = setup.load_model().to(setup.device)
    teacher = Teacher.of(model, setup.distill, precision.dtype, mesh) if setup.taught else None
    if setup.lora is not None:
        from steep.model.lora import add_lora

        model = add_lora(model, setup.lora)
    model.config.use_cache = False
    plain = _twin(model)
    if setup.activation_checkpointing:
        for block in blocks(model):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    if setup.compile is True:
        if setup.device.type == "cuda":
            load_kernel()
        for block in blocks(model):
            block.compile()
    loss = shard(LanguageModelLoss(model), mesh, precision.dtype)
    _share_weights(plain, model)
    loss.train()
    plain.eval()
    optimizer = make_optimizer(loss, betas=setup.betas, weight_decay=setup.weight_decay)
    return Trainee(loss, TrainingState(model, optimizer, Progress()), plain, precision, teacher)


def _twin(model: PreTrainedModel) -> PreTrainedModel:
    """The same model without its weights, which it gets when they are sharded: until then nobody else may hold them, so that
    each is let go as soon as its shard is there."""
    buffers = {id(buffer): buffer for buffer in model.buffers()}
    nothing = {
        id(weight): nn.Parameter(weight.detach().to("meta"), requires_grad=False) for weight in model.parameters()
    }
    return copy.deepcopy(model, memo={**buffers, **nothing})


@torch.no_grad()
def _share_weights(plain: nn.Module, sharded: nn.Module) -> None:
    """Let a plain model's weights lie in the memory of the shards, which the optimizer writes to.

    With one process a shard is the whole weight; with several, weights have to be gathered to be scored.
    """
    modules = dict(plain.named_modules())
    shared: dict[int, nn.Parameter] = {}
    for name, parameter in sharded.named_parameters(remove_duplicate=False):
        owner, _, attribute = name.rpartition(".")
        weight = shared.get(id(parameter))
        if weight is None:
            weight = nn.Parameter(local(parameter.detach()), requires_grad=False)
            shared[id(parameter)] = weight
        setattr(modules[owner], attribute, weight)
