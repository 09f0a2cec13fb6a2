"""One optimizer step: gradients of all microbatches, then the update, or none when the step is not sound."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from steep.train.assemble import Trainee
from steep.train.loader import StepData
from steep.train.mesh import local, set_last_microbatch
from steep.train.optimizer import apply_update, gradient_norm
from steep.train.schedule import rate
from steep.train.setup import TrainingSetup
from steep.train.spikes import remember, why_skip
from steep.train.statetensors import model_tensors

_SEED_STRIDE = 1_000_003  # seeds of neighbouring runs do not meet within their steps


@dataclass(frozen=True, slots=True)
class StepResult:
    """What happened in a step.

    Args:
        loss: mean nats per label.
        gradient_norm: before clipping.
        learning_rate: of the update.
        seconds: wall time, without the wait for data.
        skipped: why the update was not applied, or None.
    """

    loss: float
    gradient_norm: float
    learning_rate: float
    seconds: float
    skipped: str | None


def train_step(trainee: Trainee, setup: TrainingSetup, data: StepData) -> StepResult:
    """Make one step and advance the progress. The gradient is that of the mean over all labels of the step."""
    started = time.perf_counter()
    progress = trainee.state.progress
    torch.manual_seed(setup.seed * _SEED_STRIDE + progress.step)  # so that dropout resumes too
    loss = float(_accumulate(trainee, data))
    norm = float(gradient_norm(trainee.trainable))
    learning_rate = rate(progress.step, setup.schedule) * progress.rate_scale
    skipped = why_skip(loss, norm, progress)
    if skipped is None:
        apply_update(
            trainee.state.optimizer,
            rate=learning_rate,
            gradient_scale=min(1.0, setup.clip_norm / max(norm, 1e-12)),
        )
        _average(trainee, setup)  # only here: the update has had what a checkpoint still reads copied
        remember(loss, norm, progress)
        progress.skipped_in_a_row = 0
    else:
        progress.skipped_steps += 1
        progress.skipped_in_a_row += 1
    trainee.state.optimizer.zero_grad(set_to_none=True)
    progress.step += 1
    progress.tokens_seen += setup.step_tokens
    progress.cursor = data.cursor + setup.sequences_per_step
    return StepResult(loss, norm, learning_rate, time.perf_counter() - started, skipped)


def _accumulate(trainee: Trainee, data: StepData) -> Tensor:
    """Gradients of the mean loss over all microbatches, which is returned."""
    device = next(trainee.loss.parameters()).device
    total = torch.zeros((), device=device)
    for number, one in enumerate(data.microbatches, start=1):
        set_last_microbatch(trainee.loss, number == len(data.microbatches))
        lesson = None if trainee.teacher is None else trainee.teacher(one, device)
        nats, _ = trainee.loss(one.batch.to(device), lesson)
        mean = nats / max(1, data.num_labels)
        mean.backward()
        total += mean.detach()
    return total


def forget_other_average(trainee: Trainee, setup: TrainingSetup) -> None:
    """Let go of an average that a checkpoint brought along, where this setup keeps none yet: it is that of the run that a
    branch left."""
    progress = trainee.state.progress
    if setup.average_steps == 0 or progress.step <= setup.average_begins:
        trainee.state.average, progress.averaged_steps = None, 0


@torch.no_grad()
def _average(trainee: Trainee, setup: TrainingSetup) -> None:
    """Keep the mean of the weights after the updates of the last steps."""
    state = trainee.state
    if setup.average_steps == 0 or state.progress.step < setup.average_begins:
        return
    weights, _ = model_tensors(state.model)
    trained = {name: weight for name, weight in weights.items() if weight.is_floating_point()}
    if state.average is None:
        state.average = {name: weight.clone() for name, weight in trained.items()}
        state.progress.averaged_steps = 1
        return
    state.progress.averaged_steps += 1
    torch._foreach_lerp_(
        [local(state.average[name]) for name in trained],
        [local(weight) for weight in trained.values()],
        1.0 / state.progress.averaged_steps,
    )
