"""A base model loads with every weight from its files, or is refused with what is wrong and what to do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.model.families import FAMILIES, VOCAB, make

from steep.model.attention import NAME
from steep.model.load import load_model, stored_dtype
from steep.spec.errors import InvalidModel

Change = Callable[[Path], None]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    make("llama").save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_with_the_weights_of_its_files(family: str, tmp_path: Path) -> None:
    stored = make(family, seed=3).to(torch.bfloat16)
    stored.save_pretrained(tmp_path)
    model = load_model(str(tmp_path))
    assert not model.training
    assert model.config._attn_implementation == NAME
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    wanted = stored.state_dict()
    assert all(torch.equal(tensor, wanted[name].float()) for name, tensor in model.state_dict().items())
    assert stored_dtype(tmp_path) == torch.bfloat16


def edit_config(**changes: Any) -> Change:
    def change(base: Path) -> None:
        config = json.loads((base / "config.json").read_text()) | changes
        (base / "config.json").write_text(
            json.dumps({key: value for key, value in config.items() if value is not None})
        )

    return change


def edit_weights(edit: Callable[[dict[str, torch.Tensor]], None]) -> Change:
    def change(base: Path) -> None:
        weights = load_file(base / "model.safetensors")
        edit(weights)
        save_file(weights, base / "model.safetensors", metadata={"format": "pt"})

    return change


def cut_file(base: Path) -> None:
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-64])


def only_pickle(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")


def lost_shard(base: Path) -> None:
    (base / "model.safetensors").unlink()
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))


def only_adapter(base: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (base / name).unlink()
    (base / "adapter_config.json").write_text("{}")


def large_tokenizer(base: Path) -> None:
    vocabulary = {f"t{number}": number for number in range(VOCAB)}
    added = [{"id": VOCAB + 2, "content": "<|extra|>"}]
    (base / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": added}))


UP = "model.layers.0.mlp.up_proj.weight"


def lose(weights: dict[str, torch.Tensor]) -> None:
    del weights[UP]


def spoil(weights: dict[str, torch.Tensor]) -> None:
    weights[UP][0, 5] = float("nan")


def spoil_twice(weights: dict[str, torch.Tensor]) -> None:
    """What adds up to no infinity."""
    weights[UP][0, 5], weights[UP][1, 7] = float("inf"), float("-inf")


TROUBLE: dict[str, tuple[Change, str, str]] = {
    "no config": (lambda base: (base / "config.json").unlink(), "no config.json", "directory"),
    "torn config": (lambda base: (base / "config.json").write_text("{"), "cannot be read as JSON", "again"),
    "no model_type": (edit_config(model_type=None), "no model_type", "directory"),
    "unknown": (edit_config(model_type="llamma9"), "'llamma9' is unknown to transformers", "Upgrade"),
    "own code": (edit_config(model_type="mine", auto_map={"AutoModelForCausalLM": "m.M"}), "not run", "trust_remote_code"),
    "encoder": (edit_config(model_type="vit", architectures=["ViTModel"]), "ViTModel is no causal", "ForCausalLM"),
    "classifier": (edit_config(architectures=["LlamaForSequenceClassification"]), "is no causal", "ForCausalLM"),
    "quantised": (edit_config(quantization_config={"quant_method": "gptq"}), r"quantised \(method gptq\)", "16 or 32"),
    "pickle": (only_pickle, "pytorch_model.bin; only safetensors", "save_pretrained"),
    "adapter": (only_adapter, "an adapter, not a model", "merge_and_unload"),
    "no weights": (lambda base: (base / "model.safetensors").unlink(), "no weights", "directory"),
    "lost shard": (lost_shard, "1 of 1 weight files are missing", "again"),
    "torn weights": (cut_file, "no whole safetensors file", "again"),
    "missing weight": (edit_weights(lose), f"1 weights of the architecture .* {UP}", "config.json"),
    "left over": (edit_weights(lambda w: w.update({"model.more.weight": w[UP].clone()})), "no place", "config.json"),
    "other shape": (edit_config(intermediate_size=50), r"\[32, 48\] is stored, \[32, 50\] is wanted", "config.json"),
    "not finite": (edit_weights(spoil), f"{UP} holds values", "again"),
    "not finite twice": (edit_weights(spoil_twice), f"{UP} holds values", "again"),
    "tokenizer": (large_tokenizer, f"has {VOCAB + 3} ids but its embedding only {VOCAB} rows", "tokenizer"),
    "impossible": (edit_config(num_attention_heads=5), "does not load|no config|do not have the shape", ""),
}  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLE)
def test_what_cannot_be_trained_is_refused_with_a_cure(trouble: str, base: Path) -> None:
    change, what, cure = TROUBLE[trouble]
    load_model(str(base))
    change(base)
    with pytest.raises(InvalidModel, match=what) as caught:
        load_model(str(base))
    assert cure in str(caught.value.cure)
    assert str(base) in str(caught.value.where)


def test_weights_whose_sum_alone_overflows_are_fine(base: Path) -> None:
    def swell(weights: dict[str, torch.Tensor]) -> None:
        weights[UP][0, 5] = weights[UP][1, 7] = 3e38

    edit_weights(swell)(base)
    assert load_model(str(base)).get_parameter(UP)[0, 5] == torch.tensor(3e38)


@pytest.mark.parametrize("name", ["nobody/no-such-model", "nobody/no-such-model@main"])
def test_a_hub_id_without_a_network_is_an_error_at_once(name: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidModel, match="neither a directory nor a model that the hub gave us") as caught:
        load_model(name)
    assert time.monotonic() - began < 20
    assert "network" in str(caught.value.cure)


@pytest.mark.parametrize("name", ["./no/such/directory", "/no/such/directory"])
def test_a_missing_directory_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(InvalidModel, match="no such directory"):
        load_model(name)


def test_a_file_is_no_model(base: Path) -> None:
    with pytest.raises(InvalidModel, match="is a file"):
        load_model(str(base / "config.json"))


FOREIGN = {
    "convolutions across documents": ("lfm2", {"layer_types": ["conv", "full_attention"], "block_ff_dim": 48}),
    "no attention interface": ("bloom", {"n_layer": 2, "n_head": 4}),
    "states across documents": ("mamba", {"num_hidden_layers": 2, "state_size": 4}),
    "sees the future": ("bert", {}),
}


@pytest.mark.parametrize("why", FOREIGN)
def test_families_that_would_mix_documents_are_refused(why: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    family, changes = FOREIGN[why]
    shape = {key: value for key, value in FAMILIES["qwen2"].items() if key != "pad_token_id"}
    config = AutoConfig.for_model(family, **{**shape, **changes})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(InvalidModel):
        load_model(str(tmp_path))


def test_without_a_word_in_the_config_the_stored_type_is_that_of_the_tensors(base: Path) -> None:
    edit_config(dtype=None)(base)
    edit_weights(lambda w: w.update({name: tensor.half() for name, tensor in w.items()}))(base)
    assert stored_dtype(base) == torch.float16


@pytest.mark.shared
def test_real_bases_load(shared_data: Path) -> None:
    for name, parameters in (("novels-5M", 5_261_568), ("stories260K/hf", 260_032)):
        model = load_model(str(shared_data / "weights" / name))
        assert sum(parameter.numel() for parameter in model.parameters()) == parameters
