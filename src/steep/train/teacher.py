"""The base as a teacher: at replay text it says what it expects, so that the model in training keeps expecting it.

The next token of a text is one draw from all that could have followed. What the base expected is the whole distribution, so
the same replay text holds the model far closer to the base (Li and Hoiem 2016, arXiv 1606.09282). It costs one forward pass
of the replay share, without gradients, and a copy of the base in the precision of the computation.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from steep.model.loss import Lesson, head_of, hidden_states
from steep.train.loader import Microbatch
from steep.train.mesh import blocks

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from steep.model.batch import Batch
    from steep.model.loss import Head


class Teacher(nn.Module):
    """A frozen base. Called with a microbatch, it gives the lesson for it, or None where nothing of it is replay.

    Args:
        model: the base, which is not trained.
        share: of its expectation in what is learned at replay text.
    """

    def __init__(self, model: PreTrainedModel, share: float) -> None:
        super().__init__()
        self.reader = _Reader(model)
        self.share = share

    @classmethod
    def of(cls, base: PreTrainedModel, share: float, dtype: torch.dtype, mesh: DeviceMesh) -> Teacher:
        """A teacher with its own copy of the base's weights, sharded like the model where there are several processes."""
        cast: dict[int, nn.Module | Tensor] = {  # weights alone: what positions are made of, bf16 could not tell apart
            id(weight): nn.Parameter(weight.detach().to(dtype, copy=True), requires_grad=False)
            for weight in base.parameters()
        }
        teacher = cls(copy.deepcopy(base, memo=cast), share)
        teacher.eval()
        if mesh.size() > 1:
            for block in blocks(teacher):
                fully_shard(block, mesh=mesh)
            fully_shard(teacher.reader, mesh=mesh, reshard_after_forward=False)  # the head is used outside
        return teacher

    @torch.no_grad()
    def forward(self, one: Microbatch, device: torch.device) -> Lesson | None:
        """What the base expects at the replay text of a microbatch."""
        if one.shown is None or one.rows is None:
            return None
        hidden, head = self.reader(one.shown.to(device))
        return Lesson(one.rows.to(device), hidden, head, self.share)


class _Reader(nn.Module):
    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[Tensor, Head]:
        return hidden_states(self.model, batch), head_of(self.model)
