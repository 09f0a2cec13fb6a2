"""What assess derives from the memory that is free, and what it keeps of it."""

from __future__ import annotations

import pytest
from tests.worker.conftest import MakeContext

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.planning.facts import Facts
from steep.planning.recipe import derive
from steep.spec.errors import InvalidInput
from steep.worker.assess import _derive

FACTS = Facts(
    parameters=1_000_000_000, context_tokens=4096, hidden_size=2048, intermediate_size=5632, num_layers=22, vocab_size=32_000,
    train_tokens=50_000_000, device="cuda", memory_bytes=80 * 10**9,
)  # fmt: skip
TIGHT = FACTS.model_copy(update={"memory_bytes": 25 * 10**9})


def test_who_trained_with_a_teacher_is_not_left_without_one_because_memory_is_short_now(
    make_context: MakeContext,
) -> None:
    context = make_context()
    context.run.path.mkdir(exist_ok=True)
    context.recipe_file.write_text(derive(context.spec, FACTS).model_dump_json())
    assert context.planned.replay_distill == 1.0
    assert _derive(context, TIGHT).replay_distill == 0.0  # nothing has been trained yet
    catalog = CheckpointCatalog(context.run.checkpoints)
    (catalog.stage(10) / "weights.bin").write_bytes(b"weights")
    catalog.commit(
        10, tokens_seen=1, cursor=1, spec_fingerprint="spec", order_fingerprint="order", model_fingerprint="model"
    )
    assert _derive(context, FACTS).replay_distill == 1.0
    with pytest.raises(InvalidInput, match="are free"):
        _derive(context, TIGHT)
