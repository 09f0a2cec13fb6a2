"""New models from an architecture; and what a token costs, counted by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.model.families import FAMILIES, UNLIKE, VOCAB, make

from steep.model.flops import flops_per_token, linear_weights, peak_flops
from steep.model.scratch import make_model
from steep.spec.devices import peak_of
from steep.spec.errors import InvalidSpec
from steep.spec.job import FromScratch

SHAPE: dict[str, Any] = {
    key: FAMILIES["llama"][key]
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
}


@pytest.mark.parametrize("family", UNLIKE)
def test_every_family_can_be_made(family: str) -> None:
    shape = {
        key: value for key, value in FAMILIES[family].items() if not key.endswith("_token_id") and key != "vocab_size"
    }
    if family == "gpt_neox":
        del shape["num_key_value_heads"]  # which it does not know
    model = make_model(FromScratch(architecture=family, config=shape), VOCAB, 3, seed=1)
    assert model.get_input_embeddings().weight.shape[0] == VOCAB
    assert (model.config.eos_token_id, model.config.bos_token_id) == (3, 3)
    with torch.no_grad():
        logits = model(torch.arange(5, 60)[None]).logits[0, :-1]
    nats = torch.nn.functional.cross_entropy(logits.float(), torch.arange(6, 60))
    assert float(nats) == pytest.approx(math.log(VOCAB), rel=0.15)  # it knows nothing, and does not think it does


def test_the_seed_decides_the_weights_and_nothing_else_does() -> None:
    scratch = FromScratch(config=SHAPE)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = make_model(scratch, VOCAB, 0, seed=1)
    assert torch.equal(torch.rand(1), expected)
    same, other = make_model(scratch, VOCAB, 0, seed=1).state_dict(), make_model(scratch, VOCAB, 0, seed=2).state_dict()
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.state_dict().items())
    assert not torch.equal(one.lm_head.weight, other["lm_head.weight"])


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_are_tied_as_the_config_says(tied: bool) -> None:
    model = make_model(FromScratch(config={**SHAPE, "tie_word_embeddings": tied}), VOCAB, 0, seed=1)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied


def test_what_passes_through_keeps_its_size() -> None:
    shape = {**SHAPE, "num_hidden_layers": 12}
    model = make_model(FromScratch(config=shape), VOCAB, 0, seed=1)
    weights = model.state_dict()
    inner, into = (weights[f"model.layers.3.mlp.{name}_proj.weight"] for name in ("up", "down"))
    assert float(inner.std()) == pytest.approx(1 / math.sqrt(32), rel=0.1)
    assert float(into.std()) == pytest.approx(1 / math.sqrt(48 * 2 * 12), rel=0.1)
    given = make_model(FromScratch(config={**shape, "initializer_range": 0.5}), VOCAB, 0, seed=1)
    assert float(given.state_dict()["model.layers.3.mlp.up_proj.weight"].std()) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(
    ("architecture", "config", "what", "cure"),
    [
        ("lama", {}, "no causal language model 'lama'", "Did you mean 'llama'?"),
        ("t5", {}, "no causal language model 't5'", ""),
        ("llama", {"hidden_sizes": 64}, "no argument 'hidden_sizes'", "Did you mean 'hidden_size'?"),
        ("llama", {"hidden_size": "big"}, "expected int", "Mend"),
        ("llama", {"hidden_size": 100, "num_attention_heads": 3}, "not a multiple", "Mend"),
        ("llama", {"vocab_size": 10}, "the tokenizer has 97 ids", "Leave it out"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(
    architecture: str, config: dict[str, Any], what: str, cure: str
) -> None:
    with pytest.raises(InvalidSpec, match=what) as caught:
        make_model(FromScratch(architecture=architecture, config=config), VOCAB, 0, seed=1)
    assert cure in str(caught.value.cure)
    assert str(caught.value.where).startswith("base.from_scratch")


def test_rows_for_more_ids_than_the_tokenizer_has_are_allowed() -> None:
    model = make_model(FromScratch(config={**SHAPE, "vocab_size": 128, "rope_theta": 5000.0}), VOCAB, 0, seed=1)
    assert model.config.vocab_size == 128


def by_hand(hidden: int, kv: int, mlp: int, layers: int, *, gated: bool) -> int:
    attention = 2 * hidden * hidden + 2 * hidden * kv
    return layers * (attention + (3 if gated else 2) * hidden * mlp) + hidden * VOCAB


@pytest.mark.parametrize(
    ("family", "weights"),
    [
        ("llama", by_hand(32, 16, 48, 2, gated=True)),
        ("gemma2", by_hand(32, 16, 48, 2, gated=True)),
        ("phi3", by_hand(32, 16, 48, 2, gated=True)),
        ("gpt_neox", by_hand(32, 32, 48, 2, gated=False)),
        ("gpt2", by_hand(32, 32, 128, 2, gated=False)),
        ("phi", by_hand(32, 16, 48, 2, gated=False)),
    ],
)
def test_weights_that_a_token_meets(family: str, weights: int) -> None:
    assert linear_weights(make(family).config) == weights


def test_of_experts_only_the_chosen_ones_count() -> None:
    from transformers import MixtralConfig

    config = MixtralConfig(**{**SHAPE, "vocab_size": VOCAB, "num_local_experts": 8, "num_experts_per_tok": 2})
    router_and_second_expert = 2 * (32 * 8 + 3 * 32 * 48)
    assert linear_weights(config) == by_hand(32, 16, 48, 2, gated=True) + router_and_second_expert


def test_attention_counts_what_is_seen() -> None:
    config = make("llama").config
    attention = 2 * 4 * 32 * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8) / 8  # layers x products x width x mean of tokens seen
    assert flops_per_token(config, 8) == pytest.approx(3 * (2 * linear_weights(config) + attention))
    sliding = make("mistral", sliding_window=3).config
    seen = 2 * 4 * 32 * (1 + 2 + 3 + 3 + 3 + 3 + 3 + 3) / 8
    assert flops_per_token(sliding, 8) == pytest.approx(3 * (2 * linear_weights(sliding) + seen))


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GeForce RTX 3090", 71),
        ("Tesla V100-SXM2-16GB", 125),
        ("NVIDIA B200", 2250),
    ],
)
def test_peaks_by_the_drivers_name(name: str, tera: int) -> None:
    assert peak_of(name) == tera * 1e12


def test_nothing_is_claimed_of_what_is_not_known() -> None:
    assert peak_of("NVIDIA GeForce GTX 960M") is None
    assert peak_flops(torch.device("cpu")) is None
