"""Which mixes of the base and a checkpoint are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.worker.conftest import MakeContext

from steep.evaluate.compare import Measurement
from steep.worker import evaluate
from steep.worker.context import Context
from steep.worker.records import Records


class Models:
    """All are there."""

    def available(self, kind: str, step: int) -> bool:
        return True


def forgets(share: float) -> Measurement:
    """A model that forgets with the square of the checkpoint's share."""
    size = {"text": 1000}
    return Measurement(
        domain={"text": 3.0 - share}, general={"novels": 2.0 + 0.1 * share**2}, domain_bytes=size,
        general_bytes={"novels": 1000},
    )  # fmt: skip


def test_mixes_are_the_same_when_an_evaluation_is_repeated(
    make_context: MakeContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill or a new task; one more each time would in the end export another model."""

    def measure(context: Context, models: Any, kind: Any, step: int, tokens_seen: int, alpha: float) -> bool:
        records.write(kind, forgets(alpha), step=step, tokens_seen=tokens_seen, alpha=alpha)
        return True

    monkeypatch.setattr(evaluate, "_measure", measure)
    records = Records(tmp_path, lineage="", holdouts="")
    monkeypatch.setattr(Context, "records", records)
    context = make_context(evaluation={"interpolate": [0.7], "forgetting_budget": 0.02})
    records.write("base", forgets(0.0))
    records.write("checkpoint", forgets(1.0), step=100, tokens_seen=1000)
    shares = []
    for _ in range(3):
        evaluate._interpolations(context, Models())  # type: ignore[arg-type]
        shares.append(sorted(one.alpha or 0.0 for one in records.read() if one.kind == "interpolation"))
    assert shares == [[0.28, 0.7]] * 3
