"""The base that teaches says what the base says, however its weights are stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from steep.model.attention import register
from steep.model.batch import pack
from steep.model.loss import head_of, hidden_states
from steep.train.mesh import device_mesh
from steep.train.teacher import Teacher


@pytest.fixture
def base() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=4096, initializer_range=0.12, tie_word_embeddings=True,
    )  # fmt: skip
    model: LlamaForCausalLM = LlamaForCausalLM._from_config(config, attn_implementation=register())
    return model.eval()


def probabilities(model: LlamaForCausalLM, tokens: int) -> torch.Tensor:
    ids = np.random.default_rng(0).integers(0, 128, tokens)
    return torch.log_softmax(head_of(model).logits(hidden_states(model, pack([(ids, ids)]))).float(), -1)


@torch.no_grad()
def test_in_bf16_it_knows_positions_far_into_a_document_as_well(base: LlamaForCausalLM) -> None:
    with device_mesh(torch.device("cpu")) as mesh:
        teacher = Teacher.of(base, 1.0, torch.bfloat16, mesh)
        exact, taught = probabilities(base, 2048), probabilities(teacher.reader.model, 2048)
    nats = (exact.exp() * (exact - taught)).sum(-1)
    assert nats[1024:].mean() < 2 * nats[:256].mean()


def test_its_weights_are_its_own_and_tied_as_the_bases(base: LlamaForCausalLM) -> None:
    with device_mesh(torch.device("cpu")) as mesh:
        model = Teacher.of(base, 1.0, torch.float32, mesh).reader.model
    theirs = {weight.data_ptr() for weight in base.parameters()}
    assert not any(weight.requires_grad or weight.data_ptr() in theirs for weight in model.parameters())
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert all(weight.requires_grad for weight in base.parameters())
