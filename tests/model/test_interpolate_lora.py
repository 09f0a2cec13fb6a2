"""Mixes lie on the line between two models; adapters merged are peft's own merge, and peft loads those that are written."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model.families import documents, make, pairs

from steep.model.batch import pack
from steep.model.interpolate import interpolate
from steep.model.lora import add_lora, merge_weights, write_adapter
from steep.model.loss import LanguageModelLoss
from steep.spec.errors import InvalidModel
from steep.spec.job import Lora

FAMILIES = ["llama", "gpt2", "gpt_neox", "gemma2", "phi3", "qwen2"]
LORA = Lora(rank=4)


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def trained(family: str, lora: Lora = LORA) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model after two steps on its adapters, and its base's weights."""
    model = make(family)
    base = state(model)
    add_lora(model, lora)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for seed in (0, 1):
        nats, labels = LanguageModelLoss(model)(pack(pairs(documents([20, 9], seed))))
        (nats / labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, base


def adapters(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def nats(model: Any) -> float:
    with torch.no_grad():
        return float(LanguageModelLoss(model)(pack(pairs(documents([20, 9]))))[0])


def test_a_mix_lies_between_and_its_ends_are_exact() -> None:
    one, other = state(make("llama", seed=0)), state(make("llama", seed=1))
    for alpha, end in ((0.0, one), (1.0, other)):
        assert all(torch.equal(tensor, end[name]) for name, tensor in interpolate(one, other, alpha).items())
    quarter = interpolate(one, other, 0.25)
    for name, tensor in quarter.items():
        torch.testing.assert_close(tensor, one[name] + 0.25 * (other[name] - one[name]))


def test_a_mix_is_computed_in_fp32_and_keeps_the_type() -> None:
    one, other = torch.tensor([1.0], dtype=torch.bfloat16), torch.tensor([1.0078125], dtype=torch.bfloat16)
    count = torch.tensor([3])
    mixed = interpolate({"w": one, "n": count}, {"w": other, "n": count + 1}, 0.75)
    assert mixed["w"].dtype == torch.bfloat16
    assert float(mixed["w"]) == 1.0078125
    assert int(mixed["n"]) == 4


def test_other_architectures_are_not_mixed() -> None:
    one = {"w": torch.zeros(2)}
    with pytest.raises(InvalidModel, match="only one"):
        interpolate(one, {"v": torch.zeros(2)}, 0.5)
    with pytest.raises(InvalidModel, match=r"\[2\] in the base and \[3\]"):
        interpolate(one, {"w": torch.zeros(3)}, 0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_begin_as_nothing_and_lie_on_every_linear_layer_but_the_head(family: str) -> None:
    plain, model = make(family), add_lora(make(family), LORA)
    assert nats(model) == pytest.approx(nats(plain), rel=1e-6)
    linear = {
        name.removesuffix(".base_layer")
        for name, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D")
        and "lora_" not in name
        and module is not model.get_output_embeddings()
    }
    adapted = {name.partition(".lora_A")[0] for name in adapters(model) if ".lora_A." in name}
    assert adapted == linear
    assert all(".lora_" in name for name in adapters(model))
    again = adapters(add_lora(make(family), LORA))
    assert all(torch.equal(tensor, again[name]) for name, tensor in adapters(model).items())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lora", [LORA, Lora(rank=3, alpha=5.0)], ids=["default", "alpha"])
def test_merged_weights_are_those_of_pefts_own_merge(family: str, lora: Lora) -> None:
    model, base = trained(family, lora)
    before = nats(model)
    merged = merge_weights(base, adapters(model), lora)
    plain = make(family, seed=9)
    plain.load_state_dict(merged)
    assert nats(plain) == pytest.approx(before, rel=1e-5)
    assert nats(plain) != pytest.approx(nats(make(family)), rel=1e-3)
    theirs = copy.deepcopy(model)
    for module in theirs.modules():
        if hasattr(module, "merge"):
            module.merge()
    for name, tensor in theirs.state_dict().items():
        if "lora_" not in name:
            torch.testing.assert_close(merged[name.replace(".base_layer", "")], tensor)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers by an old name
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_peft_loads_the_adapter_that_is_written(family: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model, base = trained(family, Lora(rank=3, alpha=5.0))
    write_adapter(base, adapters(model), Lora(rank=3, alpha=5.0), tmp_path / "adapter", base_name="org/base@v1")
    loaded = PeftModel.from_pretrained(make(family), tmp_path / "adapter")
    assert loaded.peft_config["default"].base_model_name_or_path == "org/base"
    assert loaded.peft_config["default"].revision == "v1"
    assert nats(loaded.base_model.model) == pytest.approx(nats(model), rel=1e-6)
    merged = loaded.merge_and_unload()
    ours = merge_weights(base, adapters(model), Lora(rank=3, alpha=5.0))
    for name, tensor in merged.state_dict().items():
        torch.testing.assert_close(tensor, ours[name])


def test_adapters_of_another_base_are_refused() -> None:
    model, base = trained("llama")
    with pytest.raises(InvalidModel, match="no layer"):
        merge_weights({"lm_head.weight": base["lm_head.weight"]}, adapters(model), LORA)
    with pytest.raises(InvalidModel, match="no whole adapters"):
        merge_weights(base, base, LORA)
    other = {**base, "model.layers.0.mlp.up_proj.weight": torch.zeros(5, 32)}
    with pytest.raises(InvalidModel, match="the adapter of"):
        merge_weights(other, adapters(model), LORA)
