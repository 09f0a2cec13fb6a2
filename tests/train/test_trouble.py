import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.helpers import MakeSetup, Recorder, assert_equal, stop_after, weights_of

from steep.artifacts import space
from steep.artifacts.retention import RetentionPolicy
from steep.spec.errors import OutOfSpace, Stopped, TrainingFailed
from steep.train import checkpoint, tensorfile
from steep.train.checkpoint import load_average
from steep.train.observer import Silent
from steep.train.schedule import Schedule
from steep.train.setup import TrainingSetup
from steep.train.trainer import train


def poisoned(base: Path, factor: Callable[[int], float]) -> Callable[[], Any]:
    """A base whose last hidden states are multiplied by a factor of the number of the forward pass, from 1."""
    calls = 0

    def multiply(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += module.training
        return output * factor(calls) if module.training else output

    def load() -> Any:
        from steep.model.load import load_model

        model = load_model(str(base))
        model.model.norm.register_forward_hook(multiply)
        return model

    return load


def test_a_step_that_is_not_finite_is_skipped_and_reported(make_setup: MakeSetup, base: Path) -> None:
    load = poisoned(base, lambda call: float("nan") if call == 5 else 1.0)
    setup, heard = make_setup(load_model=load), Recorder()
    outcome = train(setup, heard)
    assert [report.step for report in heard.steps if report.skipped] == [5]
    assert (outcome.step, outcome.skipped_steps, outcome.rollbacks) == (20, 1, 0)
    assert [notice.step for notice in heard.notices if notice.code == "not_finite"] == [5]
    assert all(tensor.isfinite().all() for tensor in weights_of(setup, 20).values())


def test_a_skipped_step_leaves_the_weights_alone(make_setup: MakeSetup, base: Path) -> None:
    load = poisoned(base, lambda call: float("nan") if call == 4 else 1.0)
    one, other = make_setup("one", load_model=load), make_setup("other")
    for setup, steps in ((one, 4), (other, 3)):
        with pytest.raises(Stopped):
            train(setup, Silent(), stop_after(steps))
    assert_equal(weights_of(one, 4), weights_of(other, 3))


def test_a_spike_is_skipped(make_setup: MakeSetup, base: Path) -> None:
    load = poisoned(base, lambda call: -30.0 if call == 30 else 1.0)
    setup, heard = make_setup(load_model=load, schedule=Schedule(3e-3, 34, warmup_steps=3)), Recorder()
    train(setup, heard)
    assert [report.step for report in heard.steps if report.skipped] == [30]
    (notice,) = [notice for notice in heard.notices if notice.code == "loss_spike"]
    assert "gradient norm" in notice.message


def test_many_in_a_row_go_back_to_the_last_checkpoint_and_past_the_text(make_setup: MakeSetup, base: Path) -> None:
    load = poisoned(base, lambda call: float("nan") if 12 <= call <= 16 else 1.0)
    setup, heard = make_setup(load_model=load, checkpoint_every_steps=5), Recorder()
    outcome = train(setup, heard)
    assert (outcome.step, outcome.skipped_steps, outcome.rollbacks) == (20, 5, 1)
    assert [report.step for report in heard.steps] == [*range(1, 17), *range(11, 21)]  # nothing was saved at 15
    (notice,) = [notice for notice in heard.notices if notice.code == "rolled_back"]
    assert "back to step 10" in notice.message
    assert setup.checkpoints.get(20).cursor == (16 + 10) * 4
    assert heard.steps[-1].learning_rate == make_setup().schedule.peak_rate * (1 - (5 / 6) ** 0.5)


def test_trouble_that_does_not_end_fails_and_says_so(make_setup: MakeSetup, base: Path) -> None:
    load = poisoned(base, lambda call: float("nan") if call >= 12 else 1.0)
    setup, heard = make_setup(load_model=load, checkpoint_every_steps=5), Recorder()
    with pytest.raises(TrainingFailed, match="after 3 rollbacks: the loss is not finite") as failure:
        train(setup, heard)
    assert "learning_rate" in str(failure.value.cure)
    messages = [notice.message for notice in heard.notices if notice.code == "rolled_back"]
    assert len(messages) == 3
    assert "0.25 of the schedule" in messages[-1]
    assert setup.checkpoints.newest_valid() is not None


def test_trouble_from_the_very_start_fails(make_setup: MakeSetup, base: Path) -> None:
    load = poisoned(base, lambda call: float("inf"))
    with pytest.raises(TrainingFailed, match="5 steps in a row"):
        train(make_setup(load_model=load, schedule=Schedule(1e-3, 1000)), Silent())


def test_the_first_checkpoint_comes_early_and_is_read_back(make_setup: MakeSetup) -> None:
    heard = Recorder()
    with pytest.raises(Stopped):
        train(make_setup(schedule=Schedule(1e-3, 700)), heard, stop_after(8))
    assert [(report.step, report.event) for report in heard.checkpoints] == [
        (7, "saved"),
        (7, "verified"),
        (8, "saved"),
    ]


def test_retention_keeps_the_last_and_the_end_of_the_trunk(make_setup: MakeSetup) -> None:
    setup = make_setup(checkpoint_every_steps=2, retention=RetentionPolicy(keep_last=2))
    heard = Recorder()
    train(setup, heard)
    assert setup.checkpoints.steps() == [15, 18, 20]
    deleted = [report for report in heard.checkpoints if report.event == "deleted"]
    assert [report.step for report in deleted] == [1, 2, 4, 6, 8, 10, 12, 14, 16]
    assert all(report.size_bytes > 0 for report in deleted)


def test_a_damaged_newest_checkpoint_is_passed_over(make_setup: MakeSetup) -> None:
    whole = make_setup("whole")
    train(whole, Silent())
    setup = make_setup(checkpoint_every_steps=4)
    with pytest.raises(Stopped):
        train(setup, Silent(), stop_after(10))
    damage(setup, 10)
    heard = Recorder()
    train(setup, heard)
    assert (heard.checkpoints[0].step, heard.checkpoints[0].event) == (10, "rejected")
    assert heard.steps[0].step == 9
    assert_equal(weights_of(setup, 20), weights_of(whole, 20))


def damage(setup: TrainingSetup, step: int) -> None:
    weights = setup.checkpoints.path(step) / "weights-00000.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)


def test_a_damaged_checkpoint_takes_no_sound_ones_place(make_setup: MakeSetup) -> None:
    """It was the newest by its number, and so each new one was deleted at once for its sake."""
    policy = RetentionPolicy(keep_last=1, keep_best=0)

    def setup() -> TrainingSetup:
        return make_setup(checkpoint_every_steps=2, retention=policy)

    with pytest.raises(Stopped):
        train(setup(), Silent(), stop_after(14))
    damage(setup(), 14)
    heard = Recorder()
    with pytest.raises(Stopped):
        train(setup(), heard, stop_after(8))
    assert [report.step for report in heard.checkpoints if report.event == "verified"] == [
        1
    ]  # it was to be proven anew
    assert setup().checkpoints.steps() == [8, 14]
    train(setup(), heard)
    assert next(report.step for report in heard.steps[8:]) == 9
    found = setup().checkpoints
    assert found.steps() == [15, 20]  # 14 was written anew, and went as it should
    assert all(found.verify(step) for step in found.steps())


def test_too_little_space_is_said_before_training(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "free_bytes", lambda path: 1_000_000)
    heard = Recorder()
    with pytest.raises(OutOfSpace, match=r"needs .* free"):
        train(make_setup(), heard)
    assert heard.steps == []


def test_a_full_disk_in_the_middle_stops_and_the_same_call_goes_on(
    make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_setup("whole")
    train(whole, Silent())
    setup, heard = make_setup(checkpoint_every_steps=5), Recorder()

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill_the_disk() -> None:
        if len(heard.steps) >= 8:
            monkeypatch.setattr(tensorfile.os, "fsync", full)

    with pytest.raises(OutOfSpace):
        train(setup, heard, fill_the_disk)
    assert setup.checkpoints.steps() == [1, 5]
    monkeypatch.undo()
    again = Recorder()
    train(setup, again)
    assert again.steps[0].step == 6
    assert_equal(weights_of(setup, 20), weights_of(whole, 20))


def test_a_skipped_step_leaves_what_is_still_being_written_alone(
    make_setup: MakeSetup, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, write = threading.Event(), checkpoint.write_parts

    def write_late(path: Path, *arguments: Any, **others: Any) -> Any:
        if path.name.startswith("average"):
            gate.wait(10)
        return write(path, *arguments, **others)

    def factor(call: int) -> float:
        if call == 8:
            gate.set()
        return float("nan") if call == 7 else 1.0

    monkeypatch.setattr(checkpoint, "write_parts", write_late)
    schedule = Schedule(3e-3, 9)
    late = make_setup(
        "late", load_model=poisoned(base, factor), schedule=schedule, average_steps=9, checkpoint_every_steps=6
    )
    train(late, Silent())
    monkeypatch.undo()
    short = make_setup("short", schedule=schedule, average_steps=9)
    with pytest.raises(Stopped):
        train(short, Silent(), stop_after(6))
    one, other = load_average(late.checkpoints, 6), load_average(short.checkpoints, 6)
    assert one is not None
    assert other is not None
    assert_equal(one, other)
