"""Memory: parts add up, the microbatch shrinks before checkpointing sets in, and a refusal names the numbers."""

from __future__ import annotations

from typing import Any

import pytest

from steep.planning.facts import Facts
from steep.planning.memory import HEADROOM, estimate, lora_parameters, plan_memory
from steep.spec.errors import InvalidInput
from steep.spec.job import Lora


def facts(**changes: Any) -> Facts:
    known: dict[str, Any] = {
        "parameters": 100_000_000, "context_tokens": 2048, "hidden_size": 768, "num_layers": 12, "vocab_size": 50_000,
        "intermediate_size": 2048, "train_tokens": 10**7, "memory_bytes": 16 * 10**9,
    }  # fmt: skip
    return Facts(**(known | changes))


def test_full_training_in_fp32_takes_sixteen_bytes_a_parameter() -> None:
    parts = estimate(facts(), microbatch_tokens=2048, precision="fp32", activation_checkpointing=False)
    assert parts.weights + parts.gradients + parts.optimizer == 16 * 100_000_000
    assert parts.total == parts.weights + parts.gradients + parts.optimizer + parts.activations + parts.loss


def test_adapters_free_the_optimizer() -> None:
    full = estimate(facts(), microbatch_tokens=512, precision="bf16", activation_checkpointing=False)
    lora = estimate(facts(), microbatch_tokens=512, precision="bf16", activation_checkpointing=False, lora=Lora(rank=8))
    assert lora.optimizer == 8 * lora_parameters(facts(), Lora(rank=8))
    assert lora.optimizer < full.optimizer / 50


def test_activations_of_a_block_match_what_autograd_saves() -> None:
    """88.4 MB were counted for Llama h256 i688 L8 on 512 tokens in fp32."""
    small = facts(parameters=6_800_000, hidden_size=256, intermediate_size=688, num_layers=8)
    parts = estimate(small, microbatch_tokens=512, precision="fp32", activation_checkpointing=False)
    assert parts.activations == pytest.approx(88.4e6, rel=0.1)


@pytest.mark.parametrize("memory", [4 * 10**9, 5 * 10**9, 6 * 10**9, 12 * 10**9, 48 * 10**9])
def test_the_plan_fits_and_is_the_largest(memory: int) -> None:
    known = facts(memory_bytes=memory, device="cuda")
    plan = plan_memory(known, sequence_tokens=2048, sequences_per_step=32, precision="bf16")
    assert plan.estimate.total <= memory * HEADROOM["cuda"]
    assert 32 % plan.microbatch_sequences == 0
    if plan.microbatch_sequences < 16:  # 32k tokens are the most that pay
        larger = estimate(
            known, microbatch_tokens=2 * plan.microbatch_sequences * 2048, precision="bf16",
            activation_checkpointing=plan.activation_checkpointing,
        )  # fmt: skip
        assert larger.total > memory * HEADROOM["cuda"]


def test_checkpointing_only_where_it_is_needed() -> None:
    def plan(memory: int) -> bool:
        known = facts(memory_bytes=memory, num_layers=48, device="cuda")
        return plan_memory(known, sequence_tokens=2048, sequences_per_step=8, precision="bf16").activation_checkpointing

    assert not plan(64 * 10**9)
    assert plan(4 * 10**9)


def test_the_users_microbatch_is_kept() -> None:
    plan = plan_memory(facts(), sequence_tokens=512, sequences_per_step=8, precision="fp32", microbatch_sequences=3)
    assert plan.microbatch_sequences == 3


def test_refusal_says_what_is_needed_and_what_is_there() -> None:
    with pytest.raises(InvalidInput, match=r"needs about .* \(weights 400 MB, .*500 MB are free") as raised:
        plan_memory(facts(memory_bytes=5 * 10**8), sequence_tokens=2048, sequences_per_step=4, precision="fp32")
    assert "lora" in (raised.value.cure or "")
