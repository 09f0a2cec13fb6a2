"""The recipe: every number follows from the spec and the facts, and says why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steep.planning.facts import Facts, Trunk
from steep.planning.rate import second_beta
from steep.planning.recipe import Recipe, derive
from steep.spec.errors import InvalidInput, InvalidSpec
from steep.spec.job import JobSpec


def spec(*, training: dict[str, Any] | None = None, **parts: Any) -> JobSpec:
    corpus = {"sources": ["text"]}
    return JobSpec.model_validate(
        {"name": "job", "base": "model", "corpus": corpus, "training": training or {}, **parts}
    )


def facts(**changes: Any) -> Facts:
    known: dict[str, Any] = {
        "parameters": 5_000_000, "context_tokens": 512, "hidden_size": 256, "num_layers": 8, "vocab_size": 8192,
        "train_tokens": 2_000_000, "memory_bytes": 8 * 10**9,
    }  # fmt: skip
    return Facts(**(known | changes))


def reason(recipe: Recipe, field: str) -> str:
    return next(decision.reason for decision in recipe.explain() if decision.field == field)


def test_two_million_tokens_on_five_million_parameters() -> None:
    """The setting that was measured: rate 1e-3, a quarter of replay that the base teaches, steps of 4k tokens, WSD."""
    recipe = derive(spec(training={"budget": "2M tokens"}), facts())
    assert recipe.peak_rate == pytest.approx(1e-3)
    assert (recipe.replay_share, recipe.replay_distill) == (0.25, 1.0)
    assert recipe.betas == (0.9, pytest.approx(0.986, abs=1e-3))
    assert (recipe.step_tokens, recipe.total_steps, recipe.schedule) == (4096, 489, "wsd")
    assert (recipe.warmup_steps, recipe.decay_steps) == (10, 245)
    assert recipe.checkpoint_every_steps == 49


@pytest.mark.parametrize(
    ("parameters", "tokens", "lowest", "highest"),
    [
        (5_000_000, 2_000_000, 9e-4, 1.1e-3),
        (135_000_000, 20_000_000, 1e-4, 4e-4),
        (1_000_000_000, 1_000_000_000, 3e-5, 1.5e-4),
        (7_000_000_000, 20_000_000, 1e-5, 2e-5),
        (70_000_000_000, 10_000_000_000, 5e-6, 3e-5),
    ],
)
def test_rate_follows_size_and_budget(parameters: int, tokens: int, lowest: float, highest: float) -> None:
    known = facts(parameters=parameters, train_tokens=tokens, memory_bytes=10**13, context_tokens=4096)
    assert lowest <= derive(spec(), known).peak_rate <= highest


def test_scratch_and_adapters_take_higher_rates() -> None:
    known = facts(parameters=1_000_000_000, train_tokens=10**9, memory_bytes=10**13)
    full = derive(spec(), known).peak_rate
    assert derive(spec(training={"method": "lora"}), known).peak_rate == pytest.approx(10 * full, rel=0.1)
    scratch = derive(spec(), known.model_copy(update={"from_scratch": True}))
    assert scratch.peak_rate > 2 * full
    assert scratch.replay_share == 0


def test_given_values_win_and_say_so() -> None:
    training = {
        "budget": "500 steps", "sequence_tokens": 128, "global_batch_tokens": 1024, "learning_rate": 2e-4,
        "warmup": "5%", "decay": "10%", "microbatch_sequences": 2, "average": "10%",
    }  # fmt: skip
    recipe = derive(spec(training=training, replay={"share": "5%"}, checkpoints={"every": "50k tokens"}), facts())
    assert (recipe.total_steps, recipe.sequence_tokens, recipe.sequences_per_step) == (500, 128, 8)
    assert (recipe.peak_rate, recipe.warmup_steps, recipe.decay_steps, recipe.average_steps) == (2e-4, 25, 50, 50)
    assert (recipe.microbatch_sequences, recipe.sequences_per_step, recipe.replay_share) == (2, 8, 0.05)
    assert recipe.checkpoint_every_steps == 49
    for field in ("total_steps", "sequence_tokens", "global_batch_tokens", "learning_rate", "replay_share"):
        assert reason(recipe, field).startswith("as given")


def test_an_epoch_counts_the_corpus_and_replay_comes_on_top() -> None:
    recipe = derive(spec(training={"budget": "2 epochs", "global_batch_tokens": 4096}, replay={"share": 0.2}), facts())
    assert recipe.total_tokens == pytest.approx(2 * 2_000_000 / 0.8, abs=4096)
    assert recipe.epochs == pytest.approx(2, abs=0.01)


def test_budget_in_time() -> None:
    timed = spec(training={"budget": "1 h", "global_batch_tokens": 4096}, replay={"distill": 0})
    unknown = derive(timed, facts())
    assert not unknown.pace_is_measured
    assert unknown.time_budget_seconds == 3600
    known = derive(timed, facts(tokens_per_second=4096.0))
    assert known.pace_is_measured
    assert known.total_steps == 3420  # 95 % of an hour at a step a second
    taught = spec(training={"budget": "1 h", "global_batch_tokens": 4096}, replay={"share": 0.3})
    assert derive(taught, facts(tokens_per_second=4096.0)).total_steps == 3109  # a tenth more time for the base's part


def test_intervals_in_time_stay_in_time() -> None:
    recipe = derive(spec(checkpoints={"every": "10 min"}, evaluation={"every": 25}), facts())
    assert (recipe.checkpoint_every_steps, recipe.checkpoint_every_seconds) == (None, 600)
    assert (recipe.evaluate_every_steps, recipe.evaluate_every_seconds) == (25, None)


@pytest.mark.parametrize(
    ("tokens", "share", "epochs"), [(10**6, 0.25, 4), (5 * 10**7, 0.25, 2), (3 * 10**8, 0.1, 2), (10**10, 0.05, 1)]
)
def test_presets_by_corpus_size(tokens: int, share: float, epochs: float) -> None:
    recipe = derive(spec(), facts(train_tokens=tokens))
    assert recipe.replay_share == share
    assert recipe.epochs == pytest.approx(epochs, rel=0.02)


def test_no_replay_text_means_no_replay() -> None:
    assert derive(spec(), facts(replay_available=False)).replay_share == 0


@pytest.mark.parametrize(
    ("training", "where"),
    [
        ({"sequence_tokens": 1024}, "training.sequence_tokens"),
        ({"global_batch_tokens": 100}, "training.global_batch_tokens"),
    ],
)
def test_what_cannot_be_is_refused_by_name(training: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidSpec) as raised:
        derive(spec(training=training), facts())
    assert raised.value.where == where
    assert raised.value.cure


def test_replay_cannot_be_everything() -> None:
    with pytest.raises(InvalidSpec, match="nothing of the corpus"):
        derive(spec(replay={"share": "100%"}), facts())


def test_too_little_memory_is_refused_with_the_numbers() -> None:
    with pytest.raises(InvalidInput, match=r"training needs about .* and 100 MB are free"):
        derive(spec(), facts(parameters=1_000_000_000, memory_bytes=100_000_000))


@settings(deadline=None)
@given(
    parameters=st.integers(10**5, 10**11),
    train_tokens=st.integers(1_000, 10**11),
    context=st.sampled_from([128, 512, 2048, 8192, 131072]),
    budget=st.sampled_from([None, "1 epochs", "0.1 epochs", "3 steps", "7 steps", "10M tokens", "2 h"]),
    schedule=st.sampled_from(["wsd", "cosine", "linear", "constant"]),
    lora=st.booleans(),
)
def test_recipes_are_sound(
    parameters: int, train_tokens: int, context: int, budget: str | None, schedule: str, lora: bool
) -> None:
    method = "lora" if lora else "full"
    wanted = spec(training={"budget": budget, "schedule": schedule, "method": method})
    known = facts(parameters=parameters, train_tokens=train_tokens, context_tokens=context, memory_bytes=10**15)
    recipe = derive(wanted, known)
    assert recipe.total_tokens == recipe.total_steps * recipe.step_tokens
    assert recipe.warmup_steps + recipe.decay_steps <= recipe.total_steps
    assert recipe.sequences_per_step % recipe.microbatch_sequences == 0
    assert recipe.sequence_tokens <= context
    assert 1e-6 < recipe.peak_rate <= 3e-3
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert all(decision.reason and decision.value for decision in recipe.explain())


@settings(deadline=None)
@given(st.integers(10**5, 10**11), st.integers(10**5, 10**11))
def test_a_larger_base_never_gets_a_higher_rate(one: int, other: int) -> None:
    small, large = (
        derive(spec(), facts(parameters=size, memory_bytes=10**15)).peak_rate for size in sorted((one, other))
    )
    assert large <= small


def test_the_base_teaches_only_where_it_fits() -> None:
    known = facts(parameters=100_000_000, memory_bytes=3 * 10**9)
    with_teacher, without = derive(spec(), known), derive(spec(replay={"distill": 0}), known)
    assert with_teacher.replay_distill == 1.0
    assert without.replay_distill == 0.0
    tight = known.model_copy(update={"memory_bytes": 2_340_000_000})
    recipe = derive(spec(), tight)
    assert recipe.replay_distill == 0.0
    assert "does not fit" in reason(recipe, "replay_distill")
    with pytest.raises(InvalidInput, match="training needs"):
        derive(spec(replay={"distill": 0.5}), tight)


def test_the_base_teaches_nothing_without_replay() -> None:
    assert derive(spec(replay="none"), facts()).replay_distill == 0.0


@pytest.mark.parametrize(
    ("step_tokens", "steps", "beta"),
    [
        (262_144, 10_000, 0.95),
        (4_000_000, 500, 0.95),
        (4096, 489, 0.986),
        (65_536, 100_000, 0.987),
        (4096, 20, 0.95),
        (512, 10**6, 0.999),
    ],
)
def test_the_second_beta_remembers_tokens_not_steps(step_tokens: int, steps: int, beta: float) -> None:
    assert second_beta(step_tokens, steps)[0] == pytest.approx(beta, abs=1e-3)


@pytest.mark.parametrize(
    ("device", "given", "budget", "compiled"),
    [("cuda", "auto", "1B tokens", True), ("cuda", "auto", "2M tokens", False), ("cpu", "auto", "1B tokens", False),
     ("cuda", False, "1B tokens", False), ("cpu", True, "2M tokens", True)],
)  # fmt: skip
def test_long_runs_on_a_gpu_are_compiled(device: Any, given: Any, budget: str, compiled: bool) -> None:
    known = facts(parameters=1_000_000_000, device=device, memory_bytes=200 * 10**9, train_tokens=10**9)
    recipe = derive(spec(training={"budget": budget, "compile": given}), known)
    assert recipe.compile is compiled
    told = {"cuda": "enough" if compiled else "too short", "cpu": "only on a GPU"}[device]
    assert (told if given == "auto" else "as given") in reason(recipe, "compile")


def branched(step: int = 300) -> Facts:
    """What the run with a budget of 2M tokens tells a branch of it."""
    left = derive(spec(training={"budget": "2M tokens"}), facts())
    return facts(trunk=Trunk.model_validate({**left.model_dump(), "step": step}))


def test_a_branch_goes_on_in_the_trunks_steps_whatever_its_budget() -> None:
    alone = derive(spec(training={"budget": "32M tokens"}), facts())
    branch = derive(spec(training={"budget": "32M tokens"}), branched())
    trunk = branched().trunk
    assert trunk is not None
    assert alone.step_tokens != branch.step_tokens == 4096
    assert branch.total_tokens == pytest.approx(32e6, abs=4096)
    assert (branch.peak_rate, branch.warmup_steps, branch.betas) == (trunk.peak_rate, trunk.warmup_steps, trunk.betas)
    assert alone.betas != branch.betas
    assert reason(branch, "global_batch_tokens") == "as in the run that it was branched from"
    short = derive(spec(training={"budget": "1.5M tokens"}), branched())
    assert short.decay_steps == pytest.approx(short.total_steps / 2, abs=1)  # it decays from there


def test_a_branch_takes_what_it_is_given() -> None:
    training = {"budget": "2M tokens", "learning_rate": 1e-5, "betas": [0.8, 0.9], "warmup": "1%"}
    branch = derive(spec(training=training), branched())
    assert (branch.peak_rate, branch.betas, branch.warmup_steps) == (1e-5, (0.8, 0.9), 5)


@pytest.mark.parametrize(
    ("training", "field"),
    [
        ({"global_batch_tokens": 8192}, "training.global_batch_tokens"),
        ({"sequence_tokens": 128}, "training.sequence_tokens"),
        ({"budget": "1M tokens"}, "training.budget"),
    ],
)
def test_a_branch_in_other_steps_or_without_any_is_refused(training: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        derive(spec(training={"budget": "2M tokens", **training}), branched())
    assert refused.value.where == field
    same = {"budget": "2M tokens", "global_batch_tokens": 4096, "sequence_tokens": 512}
    assert derive(spec(training=same), branched()).total_steps == 489
