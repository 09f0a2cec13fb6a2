"""What assess derives from the memory that is free, and what it keeps of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.artifacts.hubs import HubCache
from tests.e2e.conftest import make_base
from tests.worker.conftest import MakeContext

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.planning.disk import estimate_disk
from steep.planning.facts import Facts
from steep.planning.recipe import derive
from steep.spec.errors import InvalidInput
from steep.worker import assess
from steep.worker.assess import _derive, _make_base, _require_disk
from steep.worker.context import Context

FACTS = Facts(
    parameters=1_000_000_000, context_tokens=4096, hidden_size=2048, intermediate_size=5632, num_layers=22, vocab_size=32_000,
    train_tokens=50_000_000, device="cuda", memory_bytes=80 * 10**9,
)  # fmt: skip
SMALL = FACTS.model_copy(update={"parameters": 1000})
TIGHT = FACTS.model_copy(update={"memory_bytes": 25 * 10**9})


def test_who_trained_with_a_teacher_is_not_left_without_one_because_memory_is_short_now(
    make_context: MakeContext,
) -> None:
    context = make_context()
    context.run.path.mkdir(exist_ok=True)
    context.recipe_file.write_text(derive(context.spec, FACTS).model_dump_json())
    assert context.planned.replay_distill == 1.0
    assert _derive(context, TIGHT).replay_distill == 0.0  # nothing has been trained yet
    commit(context, b"weights")
    assert _derive(context, FACTS).replay_distill == 1.0
    with pytest.raises(InvalidInput, match="are free"):
        _derive(context, TIGHT)


def commit(context: Context, weights: bytes) -> None:
    catalog = CheckpointCatalog(context.run.checkpoints)
    (catalog.stage(10) / "weights.bin").write_bytes(weights)
    catalog.commit(
        10, tokens_seen=1, cursor=1, spec_fingerprint="spec", order_fingerprint="order", model_fingerprint="model"
    )


def test_a_run_that_fills_its_disk_is_not_refused_for_what_it_holds(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context()
    recipe = derive(context.spec, SMALL)
    whole = estimate_disk(SMALL, recipe, context.spec.checkpoints)
    context.run.path.mkdir(exist_ok=True)
    monkeypatch.setattr(assess, "free_bytes", lambda path: whole.total - whole.checkpoint - whole.export)
    with pytest.raises(InvalidInput, match="are free"):
        _require_disk(context, SMALL, recipe)
    commit(context, bytes(whole.checkpoint))
    with pytest.raises(InvalidInput, match="more"):
        _require_disk(context, SMALL, recipe)
    (context.run.export / "charts").mkdir(parents=True)
    (context.run.export / "charts" / "model.safetensors").write_bytes(bytes(whole.export))
    _require_disk(context, SMALL, recipe)


@pytest.mark.parametrize("by_name", [True, False])
def test_a_base_from_scratch_takes_a_tokenizer_of_the_hub_or_of_a_directory_and_nothing_else_of_it(
    make_context: MakeContext, hub: HubCache, tmp_path: Path, by_name: bool
) -> None:
    directory = tmp_path / "other"
    make_base(directory, ["a text", "another text"])
    (directory / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    hub.put("org/name", directory)
    tokenizer = "org/name" if by_name else str(directory)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    context = make_context(base={"from_scratch": {"config": small, "tokenizer": tokenizer}})
    _make_base(context)
    made = Path(context.base)
    assert (made / "tokenizer.json").read_bytes() == (directory / "tokenizer.json").read_bytes()
    assert not (made / "model.safetensors.index.json").exists()
    assert {"config.json", "model.safetensors", "tokenizer_config.json"} <= {path.name for path in made.iterdir()}
