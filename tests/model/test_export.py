"""An export appears whole or not at all, is read by plain transformers, and scores as the model did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.model.conftest import TEXT_VOCAB
from tests.model.families import UNLIKE, make

from steep.artifacts.tokens import TokenDataset
from steep.model import export as module
from steep.model.export import verify_export, write_export
from steep.model.load import load_model
from steep.model.score import score_dataset
from steep.spec.errors import DamagedArtifact, InvalidInput


def moved(model: Any) -> Any:
    """Weights that are not those of the files it came from."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


@pytest.fixture
def base(tmp_path: Path, tokenizer_dir: Path) -> Path:
    """A base as users have it, in bf16."""
    path = tmp_path / "base"
    make("llama", vocab_size=TEXT_VOCAB).to(torch.bfloat16).save_pretrained(path)
    for file in tokenizer_dir.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    return path


@pytest.mark.parametrize("family", UNLIKE)
def test_every_family_comes_back_as_it_was(family: str, tmp_path: Path, id_dataset: TokenDataset) -> None:
    make(family).save_pretrained(tmp_path / "base")
    model = moved(load_model(str(tmp_path / "base")))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    write_export(model, str(tmp_path / "base"), tmp_path / "export", dtype="bf16")
    bpb = verify_export(tmp_path / "export", id_dataset, model=model, max_tokens=1000)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    exact = score_dataset(model, id_dataset, max_tokens=1000, context=64).bpb
    assert bpb == pytest.approx(exact, rel=0.05)
    assert bpb != exact  # it is rounded
    again = load_model(str(tmp_path / "export"))
    assert score_dataset(again, id_dataset, max_tokens=1000, context=64).bpb == pytest.approx(bpb, rel=1e-5)
    tensors = load_file(tmp_path / "export" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.bfloat16}


def test_the_export_is_a_directory_as_the_hub_has_it(base: Path, tmp_path: Path) -> None:
    chart = tmp_path / "chart.svg"
    chart.write_text("<svg/>")
    out = tmp_path / "out" / "export"
    attachments = {"charts/holdouts.svg": chart}
    write_export(moved(load_model(str(base))), str(base), out, card="# Card\n", attachments=attachments)
    assert (out / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert (out / "tokenizer_config.json").read_bytes() == (base / "tokenizer_config.json").read_bytes()
    assert (out / "generation_config.json").read_bytes() == (base / "generation_config.json").read_bytes()
    assert (out / "README.md").read_text() == "# Card\n"
    assert (out / "charts" / "holdouts.svg").read_text() == "<svg/>"
    config = json.loads((out / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert config == json.loads((base / "config.json").read_text())
    assert "steep" not in (out / "config.json").read_text()
    assert [path.name for path in out.parent.iterdir()] == ["export"]


@pytest.mark.parametrize(
    ("asked", "stored"), [(None, torch.bfloat16), ("fp32", torch.float32), ("fp16", torch.float16)]
)
def test_weights_are_stored_as_the_bases_are_or_as_asked(
    base: Path, tmp_path: Path, asked: str | None, stored: torch.dtype
) -> None:
    model = moved(load_model(str(base)))
    write_export(model, str(base), tmp_path / "export", dtype=asked)
    weights = load_file(tmp_path / "export" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {stored}
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(weights[name], model.state_dict()[name].to(stored))
    assert json.loads((tmp_path / "export" / "config.json").read_text())["dtype"] == str(stored).removeprefix("torch.")


def test_an_older_config_stays_readable_by_older_programs(base: Path, tmp_path: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    (base / "config.json").write_text(json.dumps(config))
    write_export(load_model(str(base)), str(base), tmp_path / "export", dtype="fp16")
    written = json.loads((tmp_path / "export" / "config.json").read_text())
    assert written == {**config, "torch_dtype": "float16"}


def test_large_models_are_stored_in_shards(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id_dataset: TokenDataset
) -> None:
    monkeypatch.setattr(module, "MAX_SHARD_SIZE", "20KB")
    model = moved(load_model(str(base)))
    write_export(model, str(base), tmp_path / "export")
    assert len(list((tmp_path / "export").glob("*.safetensors"))) > 1
    verify_export(tmp_path / "export", id_dataset, model=model, max_tokens=1000)


def test_a_failed_export_leaves_the_old_one_and_nothing_else(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = load_model(str(base)), tmp_path / "export"
    write_export(model, str(base), out, card="first")
    (tmp_path / ".export.tmp").mkdir()  # of a process that was killed
    write_export(model, str(base), out, card="second")
    assert (out / "README.md").read_text() == "second"

    def full(directory: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_sync", full)
    with pytest.raises(Exception, match="disk is full"):
        write_export(model, str(base), out, card="third")
    assert (out / "README.md").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "export"]


def test_what_is_no_export_is_not_replaced(base: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(InvalidInput, match="no export"):
        write_export(load_model(str(base)), str(base), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "precious"
    with pytest.raises(InvalidInput, match="no type"):
        write_export(load_model(str(base)), str(base), tmp_path / "export", dtype="int4")


@pytest.mark.parametrize("damage", ["changed", "missing", "torn"])
def test_a_wrong_weight_is_found(damage: str, base: Path, tmp_path: Path, id_dataset: TokenDataset) -> None:
    model, out = load_model(str(base)), tmp_path / "export"
    write_export(model, str(base), out)
    file = out / "model.safetensors"
    weights = load_file(file)
    name = "model.layers.1.mlp.down_proj.weight"
    if damage == "changed":
        weights[name] = weights[name].flip(0)
    elif damage == "missing":
        del weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    if damage == "torn":
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DamagedArtifact, match={"changed": "bits per byte", "missing": name, "torn": "load"}[damage]):
        verify_export(out, id_dataset, model=model, max_tokens=1000)
