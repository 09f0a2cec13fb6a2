from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.train.helpers import MakeSetup, Recorder, assert_equal, stop_after, weights_of

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.retention import RetentionPolicy
from steep.spec.errors import Stopped
from steep.train.checkpoint import load_average
from steep.train.loader import Sequences
from steep.train.observer import Silent
from steep.train.schedule import Schedule
from steep.train.setup import Scores, TrainingSetup
from steep.train.trainer import train


def test_learns_and_tells(make_setup: MakeSetup, documents: list[np.ndarray]) -> None:
    setup, heard = make_setup(schedule=Schedule(1e-2, 120, warmup_steps=3, decay_steps=24)), Recorder()
    outcome = train(setup, heard)
    assert (outcome.step, outcome.tokens_seen, outcome.skipped_steps) == (120, 120 * 4 * 64, 0)
    assert [report.step for report in heard.steps] == list(range(1, 121))
    assert [report.tokens_seen for report in heard.steps] == [256 * step for step in range(1, 121)]
    losses = [report.loss for report in heard.steps]
    assert sum(losses[:3]) / 3 > 6.0
    counts = np.bincount(np.concatenate(documents))
    shares = counts[counts > 0] / counts.sum()
    entropy_of_tokens = float(-(shares * np.log(shares)).sum())  # what can be known without any context
    assert sum(losses[-5:]) / 5 < entropy_of_tokens - 0.3
    assert heard.steps[1].learning_rate == pytest.approx(1e-2 * 2 / 3)
    assert all(report.tokens_per_second > 0 and report.peak_memory_bytes > 0 for report in heard.steps)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stop", [1, 7, 19])
def test_resume_is_exact(make_setup: MakeSetup, stop: int, precision: str) -> None:
    whole = make_setup("whole", precision=precision, average_steps=6)
    train(whole, Silent())
    parts = make_setup("parts", precision=precision, average_steps=6)
    with pytest.raises(Stopped, match=f"step {stop} of 20: SIGTERM was received"):
        train(parts, Silent(), stop_after(stop))
    assert parts.checkpoints.steps()[-1] == stop
    heard = Recorder()
    train(parts, heard)
    assert [report.step for report in heard.steps] == list(range(stop + 1, 21))
    assert_equal(weights_of(parts, 20), weights_of(whole, 20))
    one, other = load_average(parts.checkpoints, 20), load_average(whole.checkpoints, 20)
    assert one is not None
    assert other is not None
    assert_equal(one, other)


def test_resume_is_exact_with_dropout_after_many_stops(make_setup: MakeSetup, base: Path) -> None:
    from steep.model.load import load_model

    def with_dropout() -> Any:
        model = load_model(str(base))
        for layer in model.model.layers:
            layer.mlp.act_fn = torch.nn.Sequential(torch.nn.SiLU(), torch.nn.Dropout(0.2))
        return model

    whole = make_setup("whole", load_model=with_dropout)
    train(whole, Silent())
    parts = make_setup("parts", load_model=with_dropout)
    for _ in range(4):
        torch.rand(7)  # whatever else draws random numbers in between
        with pytest.raises(Stopped):
            train(parts, Silent(), stop_after(4))
    train(parts, Silent())
    assert_equal(weights_of(parts, 20), weights_of(whole, 20))
    assert not torch.equal(
        weights_of(whole, 20)["model.embed_tokens.weight"],
        _trained(make_setup("other", load_model=with_dropout, seed=18))["model.embed_tokens.weight"],
    )


def _trained(setup: TrainingSetup) -> dict[str, torch.Tensor]:
    train(setup, Silent())
    return weights_of(setup, setup.schedule.total_steps)


@pytest.mark.parametrize("microbatch", [1, 3])
def test_accumulation_is_the_same_step(make_setup: MakeSetup, microbatch: int) -> None:
    schedule = Schedule(3e-3, 5)
    whole = _trained(make_setup("whole", schedule=schedule))
    parts = _trained(make_setup("parts", schedule=schedule, microbatch_sequences=microbatch))
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-3, atol=1e-5)


def test_activation_checkpointing_changes_nothing(make_setup: MakeSetup) -> None:
    schedule = Schedule(3e-3, 4)
    one = _trained(make_setup("one", schedule=schedule))
    other = _trained(make_setup("other", schedule=schedule, activation_checkpointing=True))
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-5, atol=1e-7)


def test_the_average_is_the_mean_of_the_last_weights(make_setup: MakeSetup) -> None:
    setup = make_setup("long", schedule=Schedule(3e-3, 6), average_steps=3)
    train(setup, Silent())
    last = []
    for steps in (4, 5, 6):  # with a constant rate a shorter run is the beginning of a longer one
        short = make_setup(f"short-{steps}", schedule=Schedule(3e-3, 6))
        if steps < 6:
            with pytest.raises(Stopped):
                train(short, Silent(), stop_after(steps))
        else:
            train(short, Silent())
        last.append(weights_of(short, steps))
    average = load_average(setup.checkpoints, 6)
    assert average is not None
    for name, tensor in average.items():
        torch.testing.assert_close(tensor, sum(some[name] for some in last) / 3, rtol=1e-5, atol=1e-7)


def test_a_checkpoint_of_another_training_is_foreign(make_setup: MakeSetup) -> None:
    train(make_setup(), Silent())
    heard = Recorder()
    train(make_setup(spec_fingerprint="another"), heard)
    assert heard.checkpoints[0].event == "rejected"
    assert "another spec" in heard.checkpoints[0].detail
    assert heard.steps[0].step == 1


def test_a_branch_adopts_the_trunk(make_setup: MakeSetup) -> None:
    setup = make_setup()
    with pytest.raises(Stopped):
        train(setup, Silent(), stop_after(8))
    heard = Recorder()
    train(make_setup(spec_fingerprint="branch", adopts=lambda manifest: True, schedule=Schedule(3e-3, 12)), heard)
    assert [report.step for report in heard.steps] == [9, 10, 11, 12]
    manifest = CheckpointCatalog(setup.checkpoints.directory).get(12)
    assert manifest.spec_fingerprint == "branch"
    assert manifest.parent is not None
    assert manifest.parent.step == 8


def branch_of(make_setup: MakeSetup, schedule: Schedule, **changes: Any) -> TrainingSetup:
    return make_setup(spec_fingerprint="branch", adopts=lambda manifest: True, schedule=schedule, **changes)


def test_a_branch_trains_with_its_own_settings(make_setup: MakeSetup) -> None:
    """Weight decay and betas are the branch's, as it says, and not those that the checkpoint was saved with."""
    trained = []
    for name, decay in (("gentle", 0.1), ("harsh", 50.0)):
        with pytest.raises(Stopped):
            train(make_setup(name, weight_decay=0.1), Silent(), stop_after(8))
        branch = branch_of(partial(make_setup, name), Schedule(3e-3, 10), weight_decay=decay)
        train(branch, Silent())
        trained.append(weights_of(branch, 10))
    size = [sum(float(tensor.norm()) for tensor in weights.values()) for weights in trained]
    assert size[1] < 0.9 * size[0]


@pytest.mark.parametrize("average_steps", [0, 2])
def test_a_branch_averages_nothing_of_the_trunks_end(make_setup: MakeSetup, average_steps: int) -> None:
    setup = make_setup(schedule=Schedule(3e-3, 10), average_steps=4)
    with pytest.raises(Stopped):
        train(setup, Silent(), stop_after(8))
    assert load_average(setup.checkpoints, 8) is not None
    train(branch_of(make_setup, Schedule(3e-3, 12), average_steps=average_steps), Silent())
    average = load_average(setup.checkpoints, 12)
    alone = make_setup("alone", schedule=Schedule(3e-3, 12), average_steps=average_steps)
    train(alone, Silent())
    expected = load_average(alone.checkpoints, 12)
    assert (average is None) == (expected is None) == (average_steps == 0)
    if average is not None and expected is not None:
        assert_equal(average, expected)


def test_evaluates_a_plain_model_with_the_current_weights(make_setup: MakeSetup) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def measure(model: Any) -> Scores:
        assert not model.training
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return Scores({"corpus": 2.0}, {"self": 3.0}, gain=0.1, forgetting=0.01 * len(seen))

    setup, heard = make_setup(measure=measure, checkpoint_every_steps=8, precision="bf16"), Recorder()
    train(setup, heard)
    assert [report.step for report in heard.evaluations] == [8, 15, 16, 20]
    assert heard.evaluations[0].general_bpb == {"self": 3.0}
    manifest = setup.checkpoints.get(20)
    assert manifest.metrics["forgetting"] == pytest.approx(0.04)
    for name, tensor in weights_of(setup, 20).items():
        assert torch.equal(seen[-1][name], tensor), name


def test_the_last_checkpoint_has_no_twin_just_before_it(make_setup: MakeSetup) -> None:
    setup = make_setup(schedule=Schedule(1e-3, 23), checkpoint_every_steps=11, retention=RetentionPolicy(keep_last=9))
    train(setup, Silent())
    assert 22 not in setup.checkpoints.steps()
    assert {11, 23} <= set(setup.checkpoints.steps())


def divergence(setup: TrainingSetup, base: Path, step: int) -> float:
    """How far a checkpoint's expectation at replay text is from the base's, in nats a token."""
    from steep.model.load import load_model
    from steep.model.loss import head_of, hidden_states

    model, plain = load_model(str(base)), load_model(str(base))
    model.load_state_dict(weights_of(setup, step), strict=False)
    batch = Sequences(setup.datasets, setup.order, {"replay"}).step(10_000, 64, 64).microbatches[0].shown
    assert batch is not None
    with torch.no_grad():
        ours, theirs = (head_of(one).logits(hidden_states(one, batch)).log_softmax(-1) for one in (model, plain))
    return float((theirs.exp() * (theirs - ours)).sum(-1).mean())


def test_a_base_that_teaches_holds_the_model_closer(make_setup: MakeSetup, base: Path) -> None:
    replay = frozenset({"replay"})
    plain, taught = make_setup("plain", replay=replay), make_setup("taught", replay=replay, distill=1.0)
    train(plain, Silent())
    train(taught, Silent())
    assert divergence(taught, base, 20) < 0.85 * divergence(plain, base, 20)


def test_resume_with_a_teacher_is_exact(make_setup: MakeSetup) -> None:
    settings = {"replay": frozenset({"replay"}), "distill": 0.5}
    whole, parts = make_setup("whole", **settings), make_setup("parts", **settings)
    train(whole, Silent())
    with pytest.raises(Stopped):
        train(parts, Silent(), stop_after(7))
    train(parts, Silent())
    assert_equal(weights_of(parts, 20), weights_of(whole, 20))


def test_a_stop_in_the_last_step_leaves_out_nothing(make_setup: MakeSetup) -> None:
    setup = make_setup(measure=lambda model: Scores({"domain": 1.0}, {"general": 1.0}), evaluate_every_steps=5)
    heard = Recorder()
    assert train(setup, heard, stop_after(20)).step == 20
    assert [report.step for report in heard.evaluations] == [5, 10, 15, 20]
    assert setup.checkpoints.get(20).metrics
